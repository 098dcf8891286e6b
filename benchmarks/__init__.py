"""What DTNH costs, compared with the same step without it.

`make bench` measures everything but the peers, `python -m benchmarks NAME` one
benchmark, and `python -m benchmarks report` makes this page from the JSON files in
`results/`.

The program with DTNH and the reference are compiled in one process and called in turn,
in random order, many times over, so that a slow moment of the machine affects both. A
ratio is taken within each repetition; tables give the median and, in parentheses, the
quartiles. What an update replaces is donated, as in training.
"""
