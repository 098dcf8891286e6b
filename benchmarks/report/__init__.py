"""Makes ``benchmarks/README.md`` from the JSON files in ``benchmarks/results``.

``page`` is the command ``report`` and puts the page together. ``tables`` makes tables
from rows. ``summary`` makes the tables over all benchmarks: the goals, and the one in
the main README.
"""
