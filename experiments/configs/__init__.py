"""The studies, one file each; the docstring says how to run one and what came out."""

import importlib
import pkgutil

from experiments.errors import unknown
from experiments.study import Study


def names() -> list[str]:
    """Of all studies, as the command line has them."""
    return [module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)]


def study(name: str) -> Study:
    """The study of that name.

    Raises:
      InputError: if there is none, with the known ones.
    """
    if name not in names():
        raise unknown("study", name, names())
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return module.STUDY
