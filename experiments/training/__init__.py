"""The training step, the training loop, and checkpoints.

All training goes through ``loop.fit``: pretraining, the cells of a study, and
``finetune``. It trains one network per seed, all at once, on one or more devices.
"""
