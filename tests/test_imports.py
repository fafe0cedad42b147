"""Which part of fcnlite may import which: dependencies point one way, and only the backends know CuPy and ctypes."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each of these knows those before it only, through whatever it imports; what calls them, such as a command, comes last.
ORDER = ["backend", "device", "blob", "layers", "net", "solver", "training"]
# These know one another, the errors and the folder of shipped files, and nothing of arrays on a device, layers or nets.
APART = {"data", "io", "metrics", "proto", "vis"}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "fcnlite").rglob("*.py")
}


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules that a source names in imports, be they in functions; those for type checkers do not count."""
    if isinstance(tree, ast.If) and getattr(tree.test, "id", "") == "TYPE_CHECKING":
        return
    if isinstance(tree, ast.Import):
        yield from (alias.name for alias in tree.names)
    elif isinstance(tree, ast.ImportFrom):
        named = [f"{tree.module}.{alias.name}" for alias in tree.names]
        yield from (name if name in MODULES else str(tree.module) for name in named)
    for child in ast.iter_child_nodes(tree):
        yield from imports(child)


@cache
def imported_by(module: str) -> frozenset[str]:
    """What a module imports; importing a module of a package runs the package's own file too."""
    found = set(imports(ast.parse(MODULES[module].read_text())))
    parents = {name.rpartition(".")[0] for name in found if name.count(".") > 1}
    return frozenset(found | (parents & MODULES.keys()))


def known_to(part: str) -> set[str]:
    """The parts of fcnlite that a part imports, directly or through others."""
    reached: set[str] = set()
    left = {name for name in MODULES if name.split(".")[1:2] == [part]}
    while left:
        module = left.pop()
        reached.add(module)
        left |= (imported_by(module) & MODULES.keys()) - reached
    return {name.split(".")[1] for name in reached if "." in name}


@pytest.mark.parametrize("part", ORDER[:-1])
def test_dependencies_point_one_way(part: str) -> None:
    above = {*ORDER[ORDER.index(part) + 1 :], "commands", "scoring"}
    assert not known_to(part) & above


@pytest.mark.parametrize("part", sorted(APART))
def test_data_pictures_metrics_and_files_know_nothing_of_layers(part: str) -> None:
    assert known_to(part) <= APART | {"errors", "resources"}


def test_training_knows_no_command() -> None:
    assert not known_to("training") & {"commands", "caffe"}


def test_only_the_backends_know_cupy_and_ctypes() -> None:
    for module in MODULES:
        if not module.startswith("fcnlite.backend."):
            tops = {name.split(".")[0] for name in imported_by(module)}
            assert not tops & {"cupy", "cupy_backends", "ctypes"}, module


@pytest.mark.parametrize("folder", ["fcnlite", "benchmarks"])
def test_private_names_stay_in_their_module(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        tree = ast.parse(path.read_text())
        modules = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("fcnlite", "benchmarks")):
                names = [alias.name for alias in node.names]
                assert not [name for name in names if name.startswith("_")], path
                modules |= {alias.asname or alias.name for alias in node.names}
        private = [
            f"{node.value.id}.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in modules
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
        ]
        assert not private, f"{path}: {private}"


def test_the_imports_are_seen() -> None:
    """As a check of the above: what they must find, they do."""
    source = (
        "if TYPE_CHECKING:\n import a\ndef f():\n from fcnlite import net\n from fcnlite.blob import Blob"
    )
    assert list(imports(ast.parse(source))) == ["fcnlite.net", "fcnlite.blob"]
    assert {"backend", "blob", "layers", "proto", "data"} <= known_to("net")
