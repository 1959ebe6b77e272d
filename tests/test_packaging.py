"""What the package declares: bounds that are tested, dependencies that are imported, one version everywhere."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import qiskit_qff

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
TESTED_EXTRAS = ("lammps", "label", "test")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def bounds(requirements: list[str]) -> dict[str, str]:
    """Lower bound by name."""
    matches = [re.match(r"([\w.-]+)(?:\[\w+\])?>=([\w.]+)", text) for text in requirements]
    return {normal(match[1]): match[2] for match in matches if match}


def pinned(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    return {normal(line.split("==")[0]): line.split("==")[1].split()[0] for line in lines if "==" in line}


def release(version: str) -> tuple[int, ...]:
    """Numbers of a version without zeros at the end: 2.0 is 2.0.0."""
    return tuple(int(part) for part in re.sub(r"(\.0)+$", "", version).split(".") if part.isdecimal())


@pytest.mark.parametrize("extra", ["", *TESTED_EXTRAS])
def test_lower_bounds_are_what_the_tests_run_with(extra) -> None:
    lowest = pinned("lowest.txt")
    declared = bounds(EXTRAS[extra] if extra else PROJECT["dependencies"])
    assert declared
    for name, bound in declared.items():
        assert release(lowest[name]) == release(bound), f"{name}: >={bound}, but {lowest[name]} is tested"


def test_every_dependency_has_a_bound() -> None:
    for text in [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]:
        assert re.search(r">=|==", text), text


def test_the_lock_holds_everything_that_is_declared() -> None:
    lock = pinned("lock.txt")
    for extra in (PROJECT["dependencies"], *(EXTRAS[name] for name in (*TESTED_EXTRAS, "lint", "docs"))):
        for text in extra:
            name = normal(re.split(r"[\[<>=;]", text)[0])
            assert name in lock, name
            if "==" in text:
                assert lock[name] == text.split("==")[1], name
    assert not {name for name, bound in bounds(PROJECT["dependencies"]).items() if release(lock[name]) < release(bound)}


def test_what_is_imported_is_declared() -> None:
    declared = {normal(re.split(r"[\[<>=;]", text)[0]) for text in PROJECT["dependencies"]}
    for extra in EXTRAS.values():
        declared |= {normal(re.split(r"[\[<>=;]", text)[0]) for text in extra}
    providers = packages_distributions()
    for path in sorted((ROOT / "qiskit_qff").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for root in {name.split(".")[0] for name in names} - {"qiskit_qff"} - sys.stdlib_module_names:
                found = {normal(name) for name in providers.get(root, [root])}
                assert found & declared, f"{path.name} imports {root}, which {sorted(found)} brings"


def test_one_version() -> None:
    assert PROJECT["version"] == qiskit_qff.__version__
    assert f"\nversion: {qiskit_qff.__version__}\n" in (ROOT / "CITATION.cff").read_text()
