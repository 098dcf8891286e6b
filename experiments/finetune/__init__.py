"""The commands ``finetune`` and ``predict``: a network for the user's own images."""
