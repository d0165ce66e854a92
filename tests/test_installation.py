"""What `pip install -e .` installs: the packages with their data, and the requirements."""

import email
import shutil
import subprocess
import sys
import zipfile

import pytest
from packaging.requirements import Requirement

from tests.commands import REPOSITORY

BUILD = "import setuptools.build_meta, sys; setuptools.build_meta.build_wheel(sys.argv[1])"
PACKAGES = ("common", "figures", "mlm", "parity", "pcfg")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, because building leaves files beside the source."""
    source = tmp_path_factory.mktemp("source") / "repository"
    ignored = shutil.ignore_patterns("__pycache__")
    for package in (*PACKAGES, "benchmarks", "tests"):
        shutil.copytree(REPOSITORY / package, source / package, ignore=ignored)
    for path in (REPOSITORY / "pyproject.toml", REPOSITORY / "README.md"):
        shutil.copy(path, source)
    for path in REPOSITORY.glob("requirements*.txt"):
        shutil.copy(path, source)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(source.parent)],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = source.parent.glob("*.whl")
    return zipfile.ZipFile(built)


def requirements(name: str) -> set[str]:
    lines = (REPOSITORY / name).read_text().splitlines()
    return {str(Requirement(line)) for line in lines if not line.startswith("#")}


def test_dependencies_are_those_of_the_requirements(wheel: zipfile.ZipFile) -> None:
    (path,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(wheel.read(path))
    declared = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    needed = {str(requirement) for requirement in declared if requirement.marker is None}
    assert needed == requirements("requirements.txt")
    assert set(metadata.get_all("Provides-Extra", [])) == {"batch", "dev", "text"}
    for extra in ("batch", "dev", "text"):
        of_extra = {
            str(requirement).split(";")[0]
            for requirement in declared
            if requirement.marker and requirement.marker.evaluate({"extra": extra})
        }
        assert of_extra == requirements(f"requirements-{extra}.txt")


def test_packages_are_installed_with_their_data(wheel: zipfile.ZipFile) -> None:
    """And nothing else: neither tests nor benchmarks."""
    installed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    tracked = {
        path.relative_to(REPOSITORY).as_posix()
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert installed == tracked
    assert {"figures/targets.csv", "figures/report.html.jinja"} < installed
    assert any(name.startswith("pcfg/grammars/") for name in installed)
