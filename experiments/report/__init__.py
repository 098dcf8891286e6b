"""Tables and figures of a study, from its ``cells.jsonl`` alone."""

from experiments.report.write import publish as publish
