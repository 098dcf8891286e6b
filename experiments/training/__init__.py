"""One training step, the loop around it, and what keeps a run alive.

Everything that trains goes through ``loop.fit``: pretraining, the cells of a study, and
``finetune``. It trains one network per seed, all at once, on one device or on many.
"""
