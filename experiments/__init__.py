"""Fine-tuning experiments that show DTNH at work: ``python -m experiments --help``.

In the order in which a run uses them: ``data`` (images and few-shot splits),
``networks``, ``methods`` (a table of what is compared), ``recipe`` (how to train),
``training`` (the training loop), ``pretrain`` (cached pretrained networks) and ``cell``
(one cell of a study).

A study is a ``study.Study``, defined in one file of ``configs``. ``run`` trains its
cells, ``cells`` reads and writes the file that a study resumes from, and ``report``
makes tables and figures. ``finetune`` fine-tunes a network to a user's own images.

Shared helpers: ``statistics``, ``provenance`` (versions and device), ``progress`` (what
the terminal shows) and ``errors``.
"""
