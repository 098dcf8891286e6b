"""Python started anew, for what cannot be measured in the process that asks."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def printed(*arguments: str, **environment: str) -> str:
    """What ``python ARGUMENTS`` prints, run in the repository's root.

    Args:
      *arguments: of Python, such as ``"-m", "a.module"``.
      **environment: variables set besides those of this process.

    Raises:
      CalledProcessError: if it fails; what it says of that is on stderr.
    """
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
