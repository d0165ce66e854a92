"""Who may import whom, read off the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import REPOSITORY

EXPERIMENTS = {"parity", "pcfg", "mlm"}
ALLOWED = {"common": {"common"}, "figures": {"common", "figures"} | EXPERIMENTS} | {name: {"common", name} for name in EXPERIMENTS}
OURS = {"common", "figures", "benchmarks", "tests"} | EXPERIMENTS
MODULES = [path for package in sorted(ALLOWED) for path in sorted((REPOSITORY / package).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(REPOSITORY)) for path in MODULES])
def test_imports(path: Path) -> None:
    package = path.relative_to(REPOSITORY).parts[0]
    ours = {name.split(".")[0] for name in imports(path)} & OURS
    assert ours <= ALLOWED[package]
    if package == "figures":
        assert not {name for name in imports(path) if name.split(".")[0] in EXPERIMENTS and not name.endswith(".presets")}
        assert not {name for name in imports(path) if name.split(".")[0] in ("jax", "flax", "orbax")}
