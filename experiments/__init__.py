"""Fine-tuning experiments that show DTNH at work: ``python -m experiments --help``.

The rooms, in the order in which a run passes through them: ``data`` (images and
few-shot splits), ``models`` (the network), ``methods`` (what is compared, one table),
``recipe`` and ``train`` (the one training loop), ``pretrain`` (networks, cached),
``delta`` (how important channels are), ``finetune`` (one cell of a study), ``results``
(records and statistics), ``cells`` (the file that a study goes on from), ``tables``,
``figures`` and ``report``, ``progress`` (what the terminal shows while it runs), and
the studies: ``demo`` (what ``make demo`` runs), ``never_hurt``, and ``grid``, whose
grids are in ``configs``. ``trainer`` trains one network for long, over many devices.
"""
