"""One run at a time in a folder, and no lock outlives its run."""

import os
import signal

import pytest
import worker
from conftest import CONTEXT

from experiments.errors import InputError
from experiments.trainer import lock


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0)


@pytest.mark.usefixtures("impatient")
def test_a_second_run_in_a_folder_is_refused_in_words(run, config, tmp_path):
    with lock.alone_in(tmp_path / "new"):
        config = config(out=tmp_path / "new")
        with pytest.raises(InputError, match=r"run is under way in .*new: wait"):
            run(config)
        assert not (config.out / "metrics.jsonl").exists()
    with lock.alone_in(config.out):
        pass


@pytest.mark.usefixtures("impatient", "fork_server")
def test_a_run_that_was_killed_leaves_no_lock(tmp_path):
    ready, told = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=worker.hold, args=(tmp_path, told))
    process.start()
    assert ready.poll(60)
    with pytest.raises(InputError, match="another run"), lock.alone_in(tmp_path):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with lock.alone_in(tmp_path):
        pass
