"""Fine-tuning experiments that show DTNH at work: ``python -m experiments --help``.

The rooms, in the order in which a run passes through them: ``data`` (images and
few-shot splits), ``networks``, ``methods`` (what is compared, one table), ``recipe``
and ``train`` (the training loop of all studies), ``pretrain`` (networks, cached),
``delta`` (how important channels are), ``finetune`` (one cell of a study).

What the studies share besides: ``study`` (options), ``cells`` (the file that a study
goes on from), ``statistics``, ``provenance`` (versions and device), ``panels`` (parts
of figures), ``progress`` (what the terminal shows) and ``errors``.

The studies, each from its options to its report: ``demo`` (what ``make demo`` runs),
``never_hurt``, and ``grid``, whose grids are in ``configs``. ``trainer`` trains one
network for long, over many devices.
"""
