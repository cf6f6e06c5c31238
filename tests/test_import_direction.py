"""Who may import whom, read from the sources. Lower layers know nothing of higher ones."""

import ast
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"envs": "cosmos_isaac_wm.envs", "policies": "cosmos_isaac_wm.policies", "train": "cosmos_isaac_wm.train"}

# The floors of the house, from the ground up; a unit is a file or a room (folder) of the package. A file imports from
# floors beneath its own, and from its own room.
FLOORS = [
    {
        "configs",
        "weights",
        "protocols",
        "precision",
        "counter_rng",
        "borders",
        "spaces",
        "resizing",
        "storage",
        "executors",
        "telemetry",
    },
    {"scene"},
    {"perception", "dynamics", "data", "sims", "contexts"},
    {"error_bound"},
    {"training"},
    {"world_model"},
    {"rollout"},
    {"worlds"},
    {"evaluation"},
    {"reporting"},
    {"recorder"},  # where README 0.1 imported the recorders from
    {"envs"},
    {"policies"},
    {"play"},
    {"train"},
]
# Stricter than their floor: nothing else of this package.
ONLY = {
    "sims": {"protocols", "scene", "spaces", "borders", "resizing"},
    "data": {"scene", "spaces", "storage", "executors", "borders", "resizing"},
    "dynamics": {"protocols"},
    "storage": set(),
    "scene": {"storage"},  # how it is read
    "protocols": set(),
    "precision": set(),
    "counter_rng": set(),
    "borders": set(),
    "executors": set(),
    "spaces": set(),
    "telemetry": set(),
    "resizing": set(),
}
HEAVY_ON_DEMAND = {"minari", "mujoco", "torch"}  # never imported by protocols.py and scene.py


def modules() -> dict[str, Path]:
    """Every module of the package by its installed name."""
    found = {}
    for folder, package in {"cosmos_isaac_wm": "cosmos_isaac_wm", **FOLDERS}.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


MODULES = modules()


@cache
def imports(name: str, for_types: bool = False) -> set[str]:
    """Modules that `name` imports when it runs, those inside functions too; those under TYPE_CHECKING if asked."""
    path, found = MODULES[name], set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING") and not for_types:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            inner = {f"{source}.{alias.name}" for alias in node.names}
            found.update({module for module in inner if module in MODULES} or {source})
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found - {name}


def unit(module: str) -> str:
    return module.split(".")[1] if module.count(".") else ""


def floor(name: str) -> int:
    return next(index for index, units in enumerate(FLOORS) if name in units)


def test_every_unit_has_a_floor():
    assert {unit(name) for name in MODULES} - {""} == set().union(*FLOORS)


@pytest.mark.parametrize("name", [name for name in MODULES if unit(name)])
def test_a_file_imports_only_from_floors_beneath_and_from_its_own_room(name):
    own = unit(name)
    for imported in (unit(other) for other in imports(name) if other in MODULES):
        if imported not in ("", own):
            assert floor(imported) < floor(own), f"{name} must not import {imported}"
            assert imported in ONLY.get(own, {imported}), f"{name} must not import {imported}"


@pytest.mark.parametrize("for_types", [False, True])
def test_there_is_no_import_cycle(for_types):
    front = {"cosmos_isaac_wm"} if for_types else set()  # it names what it imports when first asked
    graph = {name: {other for other in imports(name, for_types) if other in MODULES} - front for name in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError and names the cycle


def test_the_folders_at_the_top_are_imported_by_their_installed_name_only():
    for name in MODULES:
        assert not imports(name) & {*FOLDERS, *(f"{folder}.{unit}" for folder in FOLDERS for unit in ("cli",))}


def test_no_script_shadows_a_library():
    """`python train/x.py` puts `train/` first on the path."""
    names = {path.stem for path in (ROOT / "train").glob("*.py")}
    installed = {module for name in MODULES for module in {imported.split(".")[0] for imported in imports(name)}}
    assert not names & (installed | set(sys.stdlib_module_names))


@pytest.mark.parametrize("name", ["cosmos_isaac_wm.protocols", "cosmos_isaac_wm.scene"])
def test_the_contracts_and_the_scene_need_no_heavy_library(name):
    assert not imports(name) & HEAVY_ON_DEMAND
