"""The commands ``finetune`` and ``predict``: a network for images of one's own."""
