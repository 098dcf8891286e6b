"""What is run: training steps of networks, the update alone, shapes of real networks.

``models`` lists the networks, of which ``vit`` is one; ``network`` makes pure functions
of them, ``steps`` trains them, ``workload`` compiles steps for one network and batch,
and ``tasks`` says which of them are compared. ``updates`` is the projection without a
network, on arrays of the ``shapes`` of well-known ones. Two run in a process of their
own: ``sharded_step`` and, in PyTorch, ``torch_steps``.
"""
