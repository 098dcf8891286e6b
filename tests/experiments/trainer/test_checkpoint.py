"""Checkpoints are read back bit for bit, or not at all."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import digests
from experiments.errors import InputError
from experiments.trainer import layout, record
from experiments.trainer.checkpoint import Checkpoints
from experiments.trainer.step import State

ABOUT = {"settings": {"weight": 0.1, "seed": 0}, "start": {"sha256": "abc"}}


@functools.partial(jax.jit, donate_argnums=0)
def _next(state):
    """Another state, in the memory of the one before."""
    return state._replace(
        step=state.step + 1, params=jax.tree.map(lambda x: 0.9 * x + 1, state.params)
    )


@pytest.fixture
def state():
    values = np.random.default_rng(0).normal(size=(256, 1024)).astype(np.float32)
    params = {"dense": {"kernel": jnp.asarray(values), "bias": jnp.arange(5.0)}}
    moments = {"count": jnp.int32(3), "nothing": None}
    key = jax.random.key_data(jax.random.key(7))
    return State(jnp.int32(0), key, params, (moments,))


@pytest.fixture
def checkpoints(tmp_path, state):
    """Opens the checkpoints of one folder; collects the warnings."""
    warnings = []
    whole = layout.whole(layout.mesh())
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), state
    )

    def open_them(about=ABOUT, like=like, keep=3):
        return Checkpoints(tmp_path, like, about, keep, warnings.append)

    open_them.warnings = warnings
    open_them.folder = tmp_path / "checkpoints"
    return open_them


def _save(checkpoints, state, steps):
    """Saves as the loop does, the next step being under way while it writes."""
    saved = {}
    with checkpoints() as opened:
        while int(state.step) < max(steps):
            state = _next(state)
            step = int(state.step)
            if step in steps:
                saved[step] = jax.tree.map(lambda x: np.array(x, copy=True), state)
                opened.save(step, state)
    return saved


def _same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_newest_state_comes_back_bit_for_bit(checkpoints, state):
    saved = _save(checkpoints, state, {1, 2, 5})
    with checkpoints() as opened:
        found = opened.restore()
    assert isinstance(found, State)
    _same(found, saved[5])
    assert not checkpoints.warnings


def test_a_state_is_saved_as_it_was_although_its_memory_is_used_again(
    checkpoints, state
):
    with checkpoints() as opened:
        for step in range(1, 9):
            state = _next(state)
            expected = np.array(state.params["dense"]["kernel"], copy=True)
            opened.save(step, state)
            for _ in range(20):
                state = _next(state)
            opened._manager.wait_until_finished()
            with checkpoints() as again:
                found = again.restore()
            _same(found.params["dense"]["kernel"], expected)


def test_the_last_few_stay(checkpoints, state):
    _save(checkpoints, state, set(range(1, 7)))
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == list("456")


def test_there_is_none_at_first(checkpoints):
    with checkpoints() as opened:
        assert opened.restore() is None


def _flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _arrays(checkpoint):
    """The files that hold the arrays, the largest first."""
    files = [path for path in (checkpoint / "state").rglob("*") if path.is_file()]
    return sorted(files, key=lambda path: -path.stat().st_size)


def _edit(checkpoint, **changes):
    """A record that was changed, its own digest made to fit."""
    path = checkpoint / record.FILE
    changed = json.loads(path.read_text())["record"] | changes
    path.write_text(json.dumps({"record": changed, "sha256": digests.of_json(changed)}))


DAMAGES = {
    "does not fit its digest": lambda path: _flip_a_byte(_arrays(path)[0]),
    "is missing": lambda path: _arrays(path)[0].unlink(),
    "has no about.json": lambda path: (path / record.FILE).unlink(),
    "cannot be read": lambda path: (path / record.FILE).write_text('{"record'),
    "about.json does not fit": lambda path: (path / record.FILE).write_text(
        (path / record.FILE).read_text().replace('"weight": 0.1', '"weight": 0.2')
    ),
}


@pytest.mark.parametrize("words", DAMAGES)
def test_a_damaged_checkpoint_is_skipped_with_a_message(checkpoints, state, words):
    saved = _save(checkpoints, state, {1, 2, 3})
    DAMAGES[words](checkpoints.folder / "3")
    with checkpoints() as opened:
        found = opened.restore()
        opened.save(3, found)  # its number is free again
        _same(found, saved[2])
    (warning,) = checkpoints.warnings
    assert "skipping checkpoint 3, moved to" in warning
    assert words in warning
    assert (next((checkpoints.folder.parent / "damaged").iterdir()) / "3").is_dir()


def test_a_flipped_byte_is_found_in_whichever_file(checkpoints, state):
    _save(checkpoints, state, {1})
    folder = checkpoints.folder / "1"
    for path in (*_arrays(folder), folder / record.FILE):
        before = path.read_bytes()
        _flip_a_byte(path)
        with pytest.raises(record.Damaged):
            record.read(folder)
        path.write_bytes(before)
    record.read(folder)


def test_where_all_are_damaged_there_is_none(checkpoints, state):
    _save(checkpoints, state, {1, 2})
    for path in list(checkpoints.folder.iterdir()):
        _flip_a_byte(_arrays(path)[0])
    with checkpoints() as opened:
        assert opened.restore() is None
    assert len(checkpoints.warnings) == 2


def test_a_checkpoint_that_was_cut_short_is_removed_with_a_message(checkpoints, state):
    saved = _save(checkpoints, state, {1, 2})
    (checkpoints.folder / "2").rename(checkpoints.folder / "2.orbax-checkpoint-tmp")
    with checkpoints() as opened:
        _same(opened.restore(), saved[1])
    (warning,) = checkpoints.warnings
    assert "2.orbax-checkpoint-tmp: it was cut short" in warning
    assert [path.name for path in checkpoints.folder.iterdir()] == ["1"]


REFUSED = {
    "another setting": (
        {**ABOUT, "settings": {"weight": 0.2, "seed": 0}},
        r"by a run with weight = 0\.1, here it is 0\.2; give another --out",
    ),
    "a setting it does not know": (
        {**ABOUT, "settings": {"weight": 0.1}},
        "by a run with seed = 0, here it is nothing",
    ),
    "another start": (
        {**ABOUT, "start": {"sha256": "xyz"}},
        "another file: sha256 = abc, here it is xyz",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_checkpoint_of_another_run_is_refused_in_words(checkpoints, state, case):
    about, words = REFUSED[case]
    _save(checkpoints, state, {1})
    with pytest.raises(InputError, match=words):
        checkpoints(about)
    assert (checkpoints.folder / "1").exists()


def test_other_arrays_are_refused_by_name(checkpoints, state):
    _save(checkpoints, state, {1})
    like = jax.eval_shape(lambda: state._replace(opt_state=({"count": jnp.zeros(4)},)))
    with pytest.raises(
        InputError,
        match=r"opt_state\.0\.count = int32\[\], here it is float32\[4\]",
    ):
        checkpoints(like=like)


def test_another_format_is_refused_in_words(checkpoints, state):
    _save(checkpoints, state, {1})
    _edit(checkpoints.folder / "1", format=record.FORMAT + 1, settings="whatever")
    with pytest.raises(InputError, match=r"has format 2, and this release reads"):
        checkpoints()
