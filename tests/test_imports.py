"""Which module of fcnlite may import which: dependencies point down, and only the backends know CuPy and ctypes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The floors of the house, the ground first. A module imports from its own floor and those below; it stands on the floor
# that names it or, most narrowly, a package around it. Modules on one floor may know one another.
FLOORS = (
    ("errors", "launcher", "progress", "resources", "tables"),
    ("memory",),
    ("proto",),
    ("io",),
    ("data", "metrics"),
    ("vis",),
    ("backend",),
    ("device", "random"),
    ("blob", "hostblob"),
    ("accumulation", "fillers", "learning_rate", "parallel"),
    ("layers.base", "layers.columns", "layers.launch", "layers.window", "layers.winograd"),
    ("layers",),
    ("netspec", "receptive_field", "updates"),
    ("coord_map", "deploy", "geometry"),
    ("models", "surgery"),
    ("convolutionalise",),
    ("net",),
    ("dense", "describe", "published", "scoring", "solver"),
    ("export", "report", "serve"),
    ("training",),
    ("caffe",),
    ("commands",),
    ("__main__", "caffe.__main__", "train"),
)
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "fcnlite").rglob("*.py")
}
# Outside libraries that one place of fcnlite may import.
FENCED = {
    "fcnlite.backend": {"cupy", "cupy_backends", "ctypes"},
    "fcnlite.parallel": {"mpi4py"},
    "fcnlite.export.onnx": {"onnx", "onnxruntime"},
    "fcnlite.export.torch": {"torch"},
    "fcnlite.serve": {"starlette"},
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
    """The modules that a module names in its imports."""
    return frozenset(imports(ast.parse(MODULES[module].read_text())))


def floor_of(module: str) -> int | None:
    """The number of a module's floor, None if it has none."""
    parts = module.split(".")[1:]
    for length in range(len(parts), 0, -1):
        for number, names in enumerate(FLOORS):
            if ".".join(parts[:length]) in names:
                return number
    return None


def advice(module: str) -> str:
    """Where a module without a floor belongs: above all that it imports and not above what imports it."""
    below = [floor_of(name) for name in imported_by(module) if name in MODULES]
    above = [floor_of(name) for name in MODULES if module in imported_by(name)]
    lowest = max((floor for floor in below if floor is not None), default=0)
    highest = min((floor for floor in above if floor is not None), default=len(FLOORS) - 1)
    places = f"not below {FLOORS[lowest]} and not above {FLOORS[highest]}"
    return f"{module} has no floor: name it in FLOORS of tests/test_imports.py, {places}"


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"fcnlite"}))
def test_dependencies_point_down(module: str) -> None:
    floor = floor_of(module)
    assert floor is not None, advice(module)
    floors = {name: floor_of(name) for name in imported_by(module) & MODULES.keys()}
    upward = {name: FLOORS[above] for name, above in floors.items() if above is not None and above > floor}
    assert not upward, f"{module}, on the floor {FLOORS[floor]}, imports from floors above it: {upward}"


def test_the_package_itself_imports_nothing_of_its_own() -> None:
    """Every import of a module runs `fcnlite/__init__.py`, which fetches its names on first use."""
    assert not imported_by("fcnlite") & MODULES.keys()


@pytest.mark.parametrize("home", FENCED)
def test_a_library_stays_behind_its_fence(home: str) -> None:
    for module in MODULES:
        if not f"{module}.".startswith(f"{home}."):
            tops = {name.split(".")[0] for name in imported_by(module)}
            assert not tops & FENCED[home], module


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
    """As a check of the above: it finds the imports it must find, and a floor for any depth of package."""
    source = (
        "if TYPE_CHECKING:\n import a\ndef f():\n from fcnlite import net\n from fcnlite.blob import Blob"
    )
    assert list(imports(ast.parse(source))) == ["fcnlite.net", "fcnlite.blob"]
    assert {"fcnlite.blob", "fcnlite.device"} <= imported_by("fcnlite.layers.convolution")
    assert floor_of("fcnlite.layers.sources.data") == floor_of("fcnlite.layers.relu")
    assert (floor_of("fcnlite.layers.base") or 0) < (floor_of("fcnlite.layers.relu") or 0)
    assert floor_of("fcnlite.nowhere") is None
