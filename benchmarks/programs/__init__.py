"""What is run: training steps of networks, updates alone, arrays of real networks.

``networks`` makes pure functions of Flax networks, of which ``vit`` is one; ``steps``
trains them. ``updates`` is the update without a network, on arrays of the ``shapes`` of
well-known ones. ``rules`` has what DTNH is compared with, in Optax; ``torch_steps``, in
PyTorch, runs in a process of its own.
"""
