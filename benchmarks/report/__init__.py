"""From the JSON files in ``benchmarks/results`` to ``benchmarks/README.md``.

``page`` puts it together, and is the command ``report``; ``sections`` has what stands
under each heading, ``plots`` the figures, ``summary`` the table of the main README.
"""
