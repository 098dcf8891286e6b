"""What cannot be served is refused before any work, in words."""

import dataclasses

import pytest

from experiments.errors import InputError
from experiments.trainer.config import Train, check, settings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"save_every": 0}, "save_every must be at least 1, got 0"),
        ({"weight": -1.0}, "weight λ must not be negative, got -1"),
        ({"network": "resnet19"}, "unknown network 'resnet19'; known: small, resnet18"),
        ({"crop": 8}, "leave out --crop"),
        ({"network": "resnet18", "crop": 65}, r"crop must be in 1\.\.64, got 65"),
        ({"method": "l2sp"}, "unknown method 'l2sp'"),
        ({"steps": 0}, "steps must be positive, got 0"),
        ({"process_id": 0}, "--coordinator and --process-id go together"),
        ({"coordinator": "a:1"}, "--coordinator and --process-id go together"),
        (
            {"coordinator": "a:1", "process_id": 2, "processes": 2},
            r"--process-id must be in 0\.\.1 .* got 2",
        ),
    ],
)
def test_bad_requests_say_what_would_do(changes, words):
    check(Train())
    with pytest.raises(InputError, match=words):
        check(dataclasses.replace(Train(), **changes))


def test_settings_are_what_determines_the_numbers():
    config = Train()
    places = {"processes": 4, "layout": "fsdp", "save_every": 7, "quiet": True}
    places |= {"tensorboard": True, "image_every": 7}
    assert settings(dataclasses.replace(config, **places)) == settings(config)
    for name, value in (("seed", 1), ("weight", 0.2), ("steps", 7), ("data", "mnist")):
        changed = settings(dataclasses.replace(config, **{name: value}))
        assert changed != settings(config), name
