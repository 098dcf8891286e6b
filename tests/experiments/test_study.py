"""Studies, their recipes, and the file of their cells."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import cells, configs
from experiments.errors import InputError
from experiments.recipe import Recipe, batch_order
from experiments.sources import SmallImages
from experiments.study import Place, Setting, Study

STUDY = Study(
    title="Two tasks",
    images=SmallImages(),
    tasks=(("mnist", "digits"), ("random", "digits")),
    methods=("plain", "l2/sum"),
    weights=(0.1, 1.0),
    recipes=(Recipe(20, 10, 0.01), Recipe(40, 10, 0.003, "adam")),
    pretraining=Recipe(),
    seeds=2,
    per_class=3,
    validation_per_class=2,
    learning_rates=(0.01, 0.03),
)


def test_the_cells_of_a_study():
    found = list(STUDY.cells())
    assert len(found) == len(set(found)) == 2 * 2 * (2 + 2)
    place = Place("mnist", "digits", "sgd", 10)
    assert found[:4] == [
        Setting(place, 0.01, "plain", None),
        Setting(place, 0.03, "plain", None),
        Setting(place, 0.01, "l2/sum", 0.1),
        Setting(place, 0.01, "l2/sum", 1.0),
    ]
    chosen = list(STUDY.cells({place: 0.03}))
    assert [x.learning_rate for x in chosen[:4]] == [0.01, 0.03, 0.03, 0.03]
    assert chosen[4:] == found[4:]
    one = dataclasses.replace(STUDY, learning_rates=())
    assert [x.learning_rate for x in one.cells()][:4] == [0.01, 0.01, 0.01, 0.003]


def test_a_capped_rule_has_one_trial_where_the_others_are_tuned():
    steady = dataclasses.replace(STUDY, methods=("plain", "l2/sum", "l2/steady"))

    def weights(study):
        return [x.weight for x in study.cells() if x.method == "l2/steady"]

    assert weights(dataclasses.replace(steady, weights=(0.1, 0.2))) == [1.0] * 4
    assert weights(dataclasses.replace(steady, learning_rates=())) == [0.1, 1.0] * 4


def test_a_setting_has_a_recipe_and_is_read_back_from_its_record():
    setting = Setting(Place("mnist", "digits", "adam", 10), 0.5, "plain", None)
    assert STUDY.recipe(setting) == Recipe(40, 10, 0.5, "adam")
    for setting in STUDY.cells():
        line = json.dumps({"record": "cell", **setting.record(), "accuracy": [1]})
        assert Setting.of(json.loads(line)) == setting


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("plian",)}, "unknown method 'plian'"),
        ({"weights": (1.0,)}, "got 1 weights and 2 learning rates"),
        ({"weights": (0.0, 1.0)}, "λ must be positive, got 0"),
        ({"tasks": ()}, "`tasks` of a study must not be empty"),
        ({"seeds": 1}, "seeds must be at least 2, got 1"),
        ({"validation_per_class": 0}, "need validation images, got none"),
        ({"recipes": (Recipe(steps=15),)}, "steps must be a multiple of 10"),
        ({"recipes": (Recipe(10), Recipe(20))}, "must differ in optimizer or batch"),
    ],
)
def test_a_study_that_cannot_be_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(STUDY, **change)


@pytest.mark.parametrize("name", configs.names())
def test_every_config_is_a_study_and_its_quick_form_is_small(name):
    study = configs.study(name)
    quick = study.quick()
    assert (quick.seeds, quick.recipes[0].steps, quick.pretraining.steps) == (2, 10, 10)
    for recipe in (*quick.recipes, quick.pretraining):
        assert recipe.crop is None or recipe.crop < quick.images.side
    assert len(list(quick.cells())) < 110
    json.dumps(dataclasses.asdict(study))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "lion"}, "unknown optimizer 'lion'; known: sgd, adam"),
        ({"steps": 0}, "steps must be positive and finite, got 0"),
        ({"falls_at": 0.0}, "falls_at must be in 0..1, got 0"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        Recipe(**change)


def test_each_epoch_sees_every_image_once():
    members = jnp.arange(100, 113, dtype=jnp.int32)
    order = batch_order(jax.random.key(0), members, Recipe(steps=5, batch_size=6))
    assert order.shape == (5, 6)
    for epoch in (order[0:2], order[2:4]):
        seen = set(np.ravel(epoch).tolist())
        assert len(seen) == 12
        assert seen < set(range(100, 113))
    assert not np.array_equal(order[0:2], order[2:4])
    longer = batch_order(jax.random.key(0), members, Recipe(steps=50, batch_size=6))
    np.testing.assert_array_equal(longer[:5], order)
    with pytest.raises(InputError, match="batch of 6 images is larger than the 5"):
        batch_order(jax.random.key(0), jnp.arange(5), Recipe(steps=1, batch_size=6))


@pytest.fixture
def path(tmp_path):
    """A file with two cells."""
    path = tmp_path / "study" / "cells.jsonl"
    assert cells.resume(path, {"weights": (1, 2)}, 3) == []
    for name in "ab":
        cells.append(path, {"record": "cell", "method": name})
    return path


def test_finished_cells_are_read_back(path):
    before = path.read_bytes()
    found = cells.resume(path, {"weights": (1, 2)}, 3)
    assert [record["method"] for record in found] == ["a", "b"]
    assert path.read_bytes() == before
    header, *others = cells.read(path)
    assert others == found
    assert (header["config"], header["cells"]) == ({"weights": [1, 2]}, 3)
    assert header["versions"]["jax"] == jax.__version__


@pytest.mark.parametrize("length", [1, 25, -40])
def test_a_line_that_was_cut_is_dropped(path, length):
    whole = path.read_bytes()
    path.write_bytes(whole[:-length])
    found = cells.resume(path, {"weights": (1, 2)}, 3)
    header, *others = cells.read(path)
    assert header["cells"] == 3
    assert others == found == [{"record": "cell", "method": "a"}][: length > 0]


def test_another_study_is_refused_and_its_file_stays(path):
    before = path.read_bytes()
    with pytest.raises(InputError, match="study with other weights; pass another"):
        cells.resume(path, {"weights": (1, 3)}, 3)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: no study has begun there"),
        (b'{"record": "about"}\n{]\n', "line 2 of .* is not JSON"),
        (b"\xff\xfe\n", "is damaged"),
    ],
)
def test_a_damaged_file_is_reported(path, content, message):
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        cells.read(path)
