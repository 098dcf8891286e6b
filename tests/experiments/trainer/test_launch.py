"""Several processes: when one ends in error, so does the whole; in bounded time."""

import os
import signal
import threading
import time

import pytest

from experiments.trainer.launch import launch

pytestmark = pytest.mark.usefixtures("fork_server")


def _sleeps(config):
    """One process dies as it is told, the other would stay for half a minute."""
    if config.process_id == 0:
        (config.out / "partial").write_text(str(os.getpid()))
        (config.out / "partial").rename(config.out / "survivor")
    else:
        while not (config.out / "survivor").exists():
            time.sleep(0.01)
        how = (config.out / "how").read_text()
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return 3
    time.sleep(30)


def _listens(config):
    def note(*_):
        (config.out / f"saved-{config.process_id}").touch()
        os._exit(0)

    signal.signal(signal.SIGTERM, note)
    (config.out / f"{config.process_id}").touch()
    time.sleep(30)
    return 1


def _returns(config):
    (config.out / f"{config.process_id}").write_text(config.coordinator)
    return 0


def _gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("how", "words"),
    [("killed", "1 of 2 ended by SIGKILL"), ("error", "1 of 2 ended with 3")],
)
def test_one_that_dies_stops_the_others(config, how, words):
    config = config(processes=2)
    (config.out / "how").write_text(how)
    with pytest.raises(ChildProcessError, match=words):
        launch(config, _sleeps)
    assert _gone(int((config.out / "survivor").read_text()))


def test_all_are_told_one_address(config):
    config = config(processes=2)
    launch(config, _returns)
    first, second = ((config.out / name).read_text() for name in "01")
    assert first == second
    assert first.startswith("127.0.0.1:")


def test_sigterm_is_handed_on(config):
    config = config(processes=2)

    def ask():
        while not all((config.out / name).exists() for name in "01"):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask)
    asking.start()
    launch(config, _listens)
    asking.join()
    assert all((config.out / f"saved-{index}").exists() for index in range(2))
