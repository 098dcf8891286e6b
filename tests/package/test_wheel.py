"""What ``make dist`` makes holds what it should, and works without the repository."""

import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import dtnh_jax

ROOT = Path(__file__).parents[2]

# How the repository is run, not part of a release.
NOT_RELEASED = (".ci/", ".github/", ".pre-commit-config.yaml")

# Enough to see that nothing is missing: all modules, and updates that are compiled.
LIBRARY_TESTS = ("test_groups.py", "test_regularizers.py", "package/test_package.py")

RUN_TESTS = """
import sys, pytest, dtnh_jax
print("installed:", dtnh_jax.__file__)
sys.exit(pytest.main(sys.argv[1:]))
"""

pytestmark = pytest.mark.slow


def run(*command, **options):
    """What a command printed; where it fails, its errors are in the failure."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The folder with the sdist, and with the wheel that was built from that sdist.

    Without isolation, which would fetch the build backend from the package index.
    """
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(dist):
    (path,) = dist.glob("*.whl")
    return path


def git(*arguments, **options):
    """The lines that git prints; the test is skipped outside of a repository."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the repository, not an sdist")
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)
    return done.stdout.splitlines()


def test_sdist_holds_the_repository_and_nothing_that_git_ignores(dist):
    """So that ``make test`` can run in it; neither runs nor data nor caches."""
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        sdist = {name.partition("/")[2] for name in archive.getnames()}
    tracked = [name for name in git("ls-files") if (ROOT / name).exists()]
    released = {name for name in tracked if not name.startswith(NOT_RELEASED)}
    assert released - sdist == set()
    assert git("check-ignore", "--stdin", "--no-index", input="\n".join(sdist)) == []


def test_wheel_holds_the_library_alone(wheel):
    sources = {
        path.relative_to(ROOT).as_posix() for path in ROOT.glob("dtnh_jax/**/*.py")
    }
    info = f"dtnh_jax-{dtnh_jax.__version__}.dist-info"
    about = {"METADATA", "WHEEL", "RECORD", "licenses/LICENSE"}
    expected = {*sources, "dtnh_jax/py.typed", *(f"{info}/{name}" for name in about)}
    assert set(zipfile.ZipFile(wheel).namelist()) == expected


def test_description_leads_nowhere_that_the_index_does_not_know(wheel):
    """Neither a path in the repository nor an image from there."""
    name = f"dtnh_jax-{dtnh_jax.__version__}.dist-info/METADATA"
    metadata = Parser().parsestr(zipfile.ZipFile(wheel).read(name).decode())
    description = metadata.get_payload()
    assert description.strip().startswith("# dtnh_jax")
    assert re.findall(r"\]\((?!https?:)[^)]*\)", description) == []


def test_installed_wheel_passes_the_tests(wheel, tmp_path):
    """In an environment that has the present one's packages, yet not this folder."""
    environment, empty = tmp_path / "venv", tmp_path / "empty"
    empty.mkdir()
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--quiet")
    run(*pip, "install", "--no-deps", "--no-index", wheel)
    (site,) = environment.glob("lib/python*/site-packages")
    # Of a folder that is added this way the .pth files are not read: an editable
    # installation in it stays without effect.
    (site / "present.pth").write_text(sysconfig.get_path("purelib"))
    tests = [ROOT / "tests" / name for name in LIBRARY_TESTS]
    options = ["-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    printed = run(python, "-c", RUN_TESTS, *options, *tests, cwd=empty)
    assert f"installed: {site}/dtnh_jax/__init__.py" in printed
    assert "passed" in printed
