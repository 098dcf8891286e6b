"""What DTNH costs, beside what it is compared with.

`make bench` measures everything but the peers, `python -m benchmarks NAME` one
benchmark, and `python -m benchmarks report` makes this page from the JSON files in
`results/`.

Ours and the reference are compiled in one process and called in turn, in random order,
many times over, so that a slow moment of the machine falls on both. A ratio is taken
within each repetition; tables give the median and, in brackets, the quartiles. What an
update replaces is donated, as in training.
"""
