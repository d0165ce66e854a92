"""Who may import whom, read off the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import REPOSITORY

EXPERIMENTS = {"parity", "pcfg", "mlm"}
OURS = {"common", "figures", "benchmarks", "tests"} | EXPERIMENTS
ALLOWED = {
    "common": {"common"},
    "figures": {"common", "figures"} | EXPERIMENTS,
    **{name: {"common", name} for name in EXPERIMENTS},
}
ROOMS = ("base", "nn", "formats", "judge", "runs", "sequence", "train", "teach", "experiment")
"""Of `common`, from the lowest up: a room imports from itself and from rooms below it."""
MODULES = [
    path for package in sorted(ALLOWED) for path in sorted((REPOSITORY / package).rglob("*.py"))
]


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, `from a import b` as a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str | None:
    """The room of `common` that a module lies in."""
    parts = module.split(".")
    return parts[1] if parts[0] == "common" and parts[1] in ROOMS else None


@pytest.mark.parametrize(
    "path", MODULES, ids=[str(path.relative_to(REPOSITORY)) for path in MODULES]
)
def test_imports(path: Path) -> None:
    package = path.relative_to(REPOSITORY).parts[0]
    ours = {name.split(".")[0] for name in imports(path)} & OURS
    is_page = path.name == "page.py"
    assert ours <= ALLOWED[package] | ({"figures"} if is_page else set())
    if package == "figures":
        of_experiments = {name for name in imports(path) if name.split(".")[0] in EXPERIMENTS}
        assert all(name.split(".")[1] == "presets" for name in of_experiments)
        assert not {
            name for name in imports(path) if name.split(".")[0] in ("jax", "flax", "orbax")
        }


def test_every_module_of_common_lies_in_a_room() -> None:
    folders = {path.name for path in (REPOSITORY / "common").iterdir() if path.is_dir()} - {
        "__pycache__"
    }
    assert folders == set(ROOMS)
    assert {path.name for path in (REPOSITORY / "common").glob("*.py")} == {
        "__init__.py",
        "export.py",
    }


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_below(room: str) -> None:
    files = sorted((REPOSITORY / "common" / room).glob("*.py"))
    imported = {room_of(name) for path in files for name in imports(path)} - {None}
    assert imported <= set(ROOMS[: ROOMS.index(room) + 1])


@pytest.mark.parametrize("package", ["common", "parity", "pcfg", "mlm", "figures"])
def test_no_module_imports_itself_in_a_circle(package: str) -> None:
    paths = {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (REPOSITORY / package).rglob("*.py")
    }

    def below(module: str) -> set[str]:
        names = {
            name if name in paths else name.rpartition(".")[0] for name in imports(paths[module])
        }
        return (names & paths.keys()) - {module}

    open_modules: list[str] = []
    finished: set[str] = set()

    def visit(module: str) -> None:
        assert module not in open_modules, f"a circle: {' -> '.join([*open_modules, module])}"
        if module in finished:
            return
        open_modules.append(module)
        for name in sorted(below(module)):
            visit(name)
        finished.add(open_modules.pop())

    for module in sorted(paths):
        visit(module)
