"""The studies, one file each. The docstring has the command and the result."""

import importlib
import pkgutil

from experiments.errors import unknown
from experiments.study import Study


def names() -> list[str]:
    """The names of all studies, as on the command line."""
    return [module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)]


def study(name: str) -> Study:
    """The study of that name.

    Raises:
      InputError: if there is none; lists the known ones.
    """
    if name not in names():
        raise unknown("study", name, names())
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return module.STUDY
