"""The README keeps its word: its Python runs, its commands and verbs exist, its links lead somewhere."""

import re
import subprocess
import venv
from pathlib import Path

import pytest
from documentation import Reader

from qiskit_qff.cli.main import VERBS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.usefixtures("fewer_shipped")
def test_python_example_runs(tmp_path) -> None:
    (example,) = blocks("python")
    reader = Reader(tmp_path)
    reader.python(example, "README.md")
    assert "99 trainable parameters" in reader.printed
    assert (tmp_path / "model.json").exists()


def test_commands_find_qff_once_the_first_one_has_run(tmp_path) -> None:
    """In one terminal, as typed; the environment holds a program that repeats how it was called."""
    venv.create(tmp_path / ".venv")
    for name, text in (("install.sh", ""), (".venv/bin/qff", 'echo "qff $@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    typed = [line for block in blocks("sh") for line in block.splitlines() if "pytest" not in line]
    done = subprocess.run(["bash", "-ec", "\n".join(typed)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [line[line.index("qff") :] for line in typed]


def test_every_verb_named_exists_and_is_named() -> None:
    named = set(re.findall(r"`qff ([a-z]+)", README))
    assert named <= set(VERBS), f"the README promises {sorted(named - set(VERBS))}"
    assert set(VERBS) <= named, f"the README is silent about {sorted(set(VERBS) - named)}"


def test_local_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
