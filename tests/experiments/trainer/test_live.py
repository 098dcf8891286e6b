"""What a run shows: a line that moves on a terminal, plain lines elsewhere."""

import io
import re

import pytest
from rich.console import Console

from experiments.progress import Reporter
from experiments.trainer import live
from experiments.trainer.command import train
from experiments.trainer.live import Live


def _terminal():
    return Console(
        file=io.StringIO(), force_terminal=True, color_system="standard", width=120
    )


def _show(console, quiet=False):
    with Live(Reporter(console, quiet), "digits", 60, 20) as shown:
        for step in range(21, 61):
            shown.write(step=step, loss=1 / step, conflict_rate=0.25)
            shown.advance()
        shown.write(step=60, accuracy=0.875)
    return console.file.getvalue()


def test_a_terminal_shows_steps_values_and_speed_in_one_line_that_stays():
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", _show(_terminal()))
    *_, text = plain.strip().splitlines()
    assert text.startswith("digits")
    assert "60/60 loss 0.0167, accuracy 87.50 %, conflict 25 %" in text
    assert re.search(r"\d steps/s", text)


def test_a_log_gets_plain_lines_the_first_and_the_last_at_least():
    assert _show(Console(file=io.StringIO())).splitlines() == [
        "digits: step 21/60: loss 0.0476, conflict 25 %",
        "digits: step 60/60: loss 0.0167, accuracy 87.50 %, conflict 25 %",
    ]


def test_a_log_gets_a_line_now_and_then_with_speed_and_time_left(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(live.time, "monotonic", lambda: 4.0 * next(clock))
    _, second, third, *_ = _show(Console(file=io.StringIO())).splitlines()
    assert second == (
        "digits: step 24/60: loss 0.0417, conflict 25 %, 0.2 steps/s, 0:02:24 left"
    )
    assert third.startswith("digits: step 27/60: ")


def test_of_other_processes_nothing_is_seen():
    assert _show(_terminal(), quiet=True) == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_quiet_means_no_control_characters_even_on_a_terminal(config, whole, quiet):
    console = _terminal()
    train(config(out=whole.out, quiet=quiet), console)
    printed = console.file.getvalue()
    assert "% of the held-out images are right" in printed
    assert ("\x1b" in printed or "\r" in printed) != quiet
