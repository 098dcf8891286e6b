"""From the JSON files in ``benchmarks/results`` to ``benchmarks/README.md``.

``page`` puts it together, and is the command ``report``; ``tables`` makes tables of
rows, ``summary`` those over all benchmarks: the goals, and that of the main README.
"""
