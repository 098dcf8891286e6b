"""The programs to measure: training steps of networks, and updates alone.

``networks`` makes pure functions of Flax networks, such as ``vit``, and ``steps``
trains them. ``updates`` has the update without a network, on arrays with the ``shapes``
of well-known networks. ``rules`` has the methods in Optax that DTNH is compared with.
``torch_steps`` has those in PyTorch, and runs in its own process.
"""
