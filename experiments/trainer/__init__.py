"""One network, trained for long, over many devices and processes.

``python -m experiments train --help``. What `train.fit` is to the studies, which train
many small networks at once and in memory, this is to one network that takes hours: it
is sharded, it writes checkpoints, and when it is killed it goes on from the last one.
What a step does is the same in both, ``experiments.step``.

The rooms, in the order in which a run passes through them: ``config`` (what to train),
``launch`` (several processes on this machine), ``processes`` (how they find each
other), ``task`` and ``start`` (data, and the network to begin with), ``layout`` (what
lies on which device), ``loader``, ``step`` (one update, a pure function), ``metrics``,
``events`` with ``heat_map`` (TensorBoard), ``live`` (the terminal), ``checkpoint`` with
``record`` and ``names``, ``preemption``, ``lock``, and ``loop``, which is the run.
"""
