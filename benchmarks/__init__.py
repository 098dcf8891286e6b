"""What DTNH costs, compared with the same computation without it.

`make bench` measures everything, unattended, in about 25 minutes on two cores;
`python -m benchmarks NAME` measures one benchmark; `make gpu` what is worth most on a
GPU, in ten minutes. Measuring needs a tree without uncommitted changes, as each record
names its commit; `--quick` tries the smallest cases and writes nothing. `python -m
benchmarks report` makes this page from the JSON files in `results/`.

Programs that are compared are compiled in one process and called in turn, in random
order, many times over, so that a slow moment of the machine affects all of them. A
ratio is taken within each repetition; tables give the median and, in parentheses, the
quartiles. What a step or an update replaces is donated, as in training. Two figures in
a cell are ours and the reference's. *Floor* is the ratio that no implementation can go
below, *goal* the one to stay below.
"""
