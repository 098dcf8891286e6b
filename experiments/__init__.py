"""Fine-tuning experiments that show DTNH at work: ``python -m experiments --help``.

In the order in which a run uses them: ``data`` (images and few-shot splits),
``networks``, ``methods`` (a table of what is compared; ``bloop`` is one of its rules),
``recipe`` (how to train), ``training`` (the training loop), ``pretrain`` (cached
pretrained networks) and ``cell`` (one cell of a study).

A study is a ``study.Study``, defined in one file of ``configs``; those of the paper's
protocol share ``paper``. ``sources`` finds the images and networks that a study names.
``run`` trains its cells, ``cells`` reads and writes the file that a study resumes from,
and ``report`` makes tables and figures. ``commands`` has the commands of studies.
``finetune`` fine-tunes a network to a user's own images.

Shared helpers: ``statistics``, ``provenance`` (versions and device), ``progress`` (what
the terminal shows), ``digests`` (hashes, as in names of cache entries) and ``errors``.
"""
