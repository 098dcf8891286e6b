"""What DTNH costs, beside what it is compared with, in one run."""
