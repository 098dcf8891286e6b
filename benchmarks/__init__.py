"""What DTNH costs, compared with the same computation without it.

`make bench` measures everything, unattended, in about 40 minutes on two cores. `python
-m benchmarks NAME` measures one benchmark, and `make gpu` the most useful ones on a
GPU, in ten minutes. Measuring needs a working tree without uncommitted changes, because
each record names its commit. `--quick` tries the smallest cases and writes nothing.
`python -m benchmarks report` makes this page from the JSON files in `results/`.

Programs to be compared are compiled in one process and called in turn, in random order,
many times, so that slow phases of the machine affect all of them. Ratios are taken
within each repetition. Tables give the median and, in parentheses, the quartiles. The
inputs that a step or an update replaces are donated, as in training. Two figures in a
cell are ours and the reference's. The *floor* is the lowest ratio that any
implementation can reach; the *goal* is the limit to stay below.
"""
