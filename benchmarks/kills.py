"""What a kill leaves behind: every long command is killed many times, resumed, and must end as if nothing had been.

    python benchmarks/kills.py [--kills 50] [--only train md ...] [--smoke]

Commands run in children of a fork server that has imported everything, so that kills hit the work. Every second kill
comes at a random moment, the others just before a random operation on a file. Then every file must be readable, the
command is resumed, no unit of work on disk may be done again, and the results must equal those of an undisturbed run to
the last digit, all but clocks and dates. Results are written down after every command; rows of other commands stay.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import models
import numpy as np
import yaml
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write

from qiskit_qff.model.force_field import ForceField
from qiskit_qff.simulation.recording import read_checkpoint

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([
    "qiskit_qff.cli.main", "qiskit_qff.training.pipeline", "qiskit_qff.labelling.label", "qiskit_qff.learning.run",
    "qiskit_qff.simulation.dynamics", "qiskit_qff.report.figures", "qiskit_qff.evaluators.backends", "qiskit_aer",
    "qiskit_ibm_runtime.fake_provider", "qiskit_ibm_runtime.executor_estimator", "ase.calculators.emt",
    "qiskit_qff.report.directory", "qiskit_qff.training.measured.run", "qiskit_ibm_runtime.transpiler.plugin",
    "qiskit.transpiler.passes.synthesis.hls_plugins",
])  # fmt: skip

POOL = "descriptor: {r_cut: 4.0, n_radial: 2, l_max: 1}"
FITTING = f"{POOL}\nmax_parameters: 20\n"
CONFIGURATIONS = {
    "exact.yaml": f"data: {{path: data.extxyz, test_fraction: 0.25}}\n{FITTING}",
    "measured.yaml": f"""
data: {{path: data.extxyz, test_fraction: 0.25}}
{POOL}
circuit: {{family: brickwork_cz, readout: z_diagonal, n_qubits: 2, layers: 1, n_readouts: 2}}
estimator: {{backend: aer, shots: 64, optimizer: adam, steps: 4}}
max_parameters: 24
""",
    "learn.yaml": """
start: bare.extxyz
label: {calculator: emt}
md: {temperatures_k: [300], time_ps: 0.2, timestep_fs: 2.0, interval: 10}
select: {per_round: 2, held_out: 1}
stop: {rounds: 1}
train:
"""
    + "".join(f"  {line}\n" for line in FITTING.splitlines()),
}
CLOCKS = {
    "seconds", "seconds_per_frame", "ms_per_step", "resumed_from_step", "resumed_measurements", "date", "run",
    "job_ids", "label_seconds",
}  # fmt: skip
"""Entries of results that may differ from run to run."""


def write_inputs(directory):
    """Twelve rattled cells of copper and gold with EMT labels, six of them bare, and the configurations."""
    random, frames = np.random.default_rng(3), []
    for _ in range(12):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        atoms.symbols[[1, 4, 6]] = "Au"
        atoms.set_cell(atoms.cell * random.uniform(1.02, 1.08), scale_atoms=True)
        atoms.positions += random.normal(0.0, 0.08, (8, 3))
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    directory.mkdir(parents=True)
    write(directory / "data.extxyz", frames)
    write(directory / "bare.extxyz", [atoms.copy() for atoms in frames[:6]])
    for name, text in CONFIGURATIONS.items():
        (directory / name).write_text(text)


# --- running a command ------------------------------------------------------------------------------------------------


def child(arguments, directory, prints, die_before, environment):
    """Run one command in a process group of its own; kill the group before the n-th operation on its files."""
    os.setpgid(0, 0)
    os.environ.update(environment)
    os.chdir(directory)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(prints / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    root, owner, count = os.path.realpath(directory) + os.sep, os.getpid(), 0
    changes = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}

    def hear(event, given):
        nonlocal count
        opens = event == "open" and (
            any(letter in given[1] for letter in "wax+") if isinstance(given[1], str) else given[2] & 3
        )
        if not (opens or event in changes) or os.getpid() != owner or not isinstance(given[0], (str, os.PathLike)):
            return
        if os.path.abspath(given[0]).startswith(root):  # noqa: PTH100 - an audit hook must not open anything
            count += 1
            if count == die_before:
                os.killpg(0, signal.SIGKILL)

    sys.addaudithook(hear)
    from qiskit_qff.cli.main import run

    code = run(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    (prints / "operations").write_text(str(count))
    os._exit(code)


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    operations: int


def qff(arguments, directory, prints, *, die_before=0, kill_after=None, environment=None):
    """Run a command, and kill it after some seconds if it is to be."""
    prints.mkdir(exist_ok=True)
    begin = time.monotonic()
    process = CONTEXT.Process(target=child, args=(arguments, directory, prints, die_before, environment or {}))
    process.start()
    process.join(kill_after)
    if process.is_alive() and kill_after is not None:
        with contextlib.suppress(ProcessLookupError):  # it may have no group of its own yet
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    process.join(600.0)
    said = [(prints / name).read_text() if (prints / name).exists() else "" for name in ("stdout", "stderr")]
    counted = prints / "operations"
    operations = int(counted.read_text()) if counted.exists() else 0
    return Ended(process.exitcode, *said, time.monotonic() - begin, operations)


# --- what must be equal afterwards ------------------------------------------------------------------------------------


def timeless(value):
    """Results without clocks."""
    if isinstance(value, dict):
        return {key: timeless(entry) for key, entry in value.items() if key not in CLOCKS}
    return [timeless(entry) for entry in value] if isinstance(value, list) else value


def picture(path):
    """Nothing to compare.

    Raises:
        ValueError: if the file ends too early.
    """
    end = b"IEND" if path.suffix == ".png" else b"</html>"
    if end not in path.read_bytes()[-12:]:
        raise ValueError(f"{path.name} has no end")


def arrays(path):
    """All arrays of a file, or the momenta of a checkpoint."""
    if path.name == "checkpoint.npz":
        return read_checkpoint(path)["momenta"].tolist()
    with np.load(path, allow_pickle=False) as held:
        return {name: held[name].tolist() for name in held.files}


def text(path):
    """A growing file without clocks; an unfinished last line is no damage to it."""
    return re.sub(r"label_(wall_s|finished)=\S+", "", path.read_text())


READERS = {
    ".json": lambda path: timeless(json.loads(path.read_text())),
    ".jsonl": lambda path: [timeless(json.loads(line)) for line in path.read_text().split("\n")[:-1]],
    ".yaml": lambda path: yaml.load(path.read_text(), Loader=yaml.CSafeLoader),
    ".npz": arrays,
    ".extxyz": text,
    ".csv": text,
    ".png": picture,
    ".html": picture,
}
"""What files say, by their ending; anything else is not compared."""


def content(path):
    """What a file says; whatever is raised means that it is damaged."""
    if path.name in {"model.json", "out.json"}:
        ForceField.load(path)
    return READERS.get(path.suffix, lambda _: None)(path)


def results(directory):
    """All files of a finished run, by name."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        # Names and ids of jobs are drawn anew in every run.
        of_jobs = path.name == "journal.jsonl"
        if path.is_file() and not of_jobs:
            found[name] = content(path)
    return found


def damaged(directory):
    """Files that can't be read, but for those that are called unfinished."""
    found = []
    for path in sorted(directory.rglob("*")):
        parts = path.relative_to(directory).parts
        if path.is_file() and not any(part.endswith((".partial", ".work")) for part in parts):
            try:
                content(path)
            except Exception as error:  # noqa: BLE001 - whatever a reader makes of a damaged file is a finding
                found.append(f"{path.relative_to(directory)}: {type(error).__name__}: {error}")
    return found


def difference(found, expected):
    """Files whose content differs, or None."""
    names = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    return f"not as without a kill: {', '.join(names)}" if names else None


# --- the commands -----------------------------------------------------------------------------------------------------

MD = ["md", "model", "data.extxyz", "--out", "out", "--steps", "60", "--interval", "5", "--checkpoint", "10",
      "--timestep", "2", "--on-extrapolation", "save", "--grade-limit", "0.5", "--json"]  # fmt: skip
COMMANDS = {
    "train": ["train", "exact.yaml", "--out", "out", "--json"],
    "train --backend aer": ["train", "measured.yaml", "--out", "out", "--json"],
    "md": MD,
    "label": ["label", "bare.extxyz", "--calculator", "emt", "--out", "out.extxyz", "--json"],
    "calibrate": ["calibrate", "model", "--backend", "fake_manila", "--shots", "100", "--run", "run", "--out",
                  "out.json", "--json"],
    "learn": ["learn", "learn.yaml", "--out", "out", "--json"],
}  # fmt: skip


def resume(name, directory):
    """The command that goes on with what a kill has left, and how many units of work are on disk; [] if all is done."""
    command, done = COMMANDS[name], None
    jobs = directory / "out" / "jobs"
    if name == "train --backend aer" and (jobs / "journal.jsonl").exists():
        return [*command, "--resume"], len(list(jobs.glob("job_*.npz")))
    if name == "label":
        labels = directory / "out.extxyz"
        done = labels.read_text().count("\n") // 10 if labels.exists() else 0  # eight atoms, a number and a header
        begun = labels.exists() or (directory / "out.failures.extxyz").exists()
        return ([*command, "--resume"] if begun else command), done
    if name == "calibrate" and (directory / "out.json").exists():
        return [], done  # a calibration is never overwritten
    return command, done


def kept(name, told):
    """Units of work that a resumed command says that it has not done again; None where it does not say."""
    if name == "label":
        return told["n_kept"]
    return told["estimator"]["resumed_measurements"] if name == "train --backend aer" else None


class Workshop:
    """A directory with the inputs and a trained model, of which every run gets a copy in the same place."""

    def __init__(self, place):
        self.inputs, self.run, self.prints = place / "inputs", place / "run", place / "prints"
        write_inputs(self.inputs)
        self.do(["train", "exact.yaml", "--out", "model"], self.inputs)

    def do(self, arguments, directory):
        """Run a command that must succeed."""
        ended = qff(arguments, directory, self.prints)
        if ended.code:
            raise RuntimeError(f"{' '.join(arguments)} failed without any fault: {ended.stderr}")
        return ended

    def fresh(self, origin=None):
        """A new copy of the inputs, or of another directory: models hold absolute paths, so it is in one place."""
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(origin or self.inputs, self.run)
        return self.run

    def kill(self, name, *, count, rng, say=print):
        """Kill a command so many times; gives a row of the table."""
        directory = self.fresh()
        whole = self.do(COMMANDS[name], directory)
        expected, problems, struck = results(directory), [], 0
        for index in range(count):
            directory = self.fresh()
            share = (index + rng.random()) / count  # spread over the run, so that a few kills are not all alike
            when = {"die_before": 1 + int(share * whole.operations)} if index % 2 else {}
            when = when or {"kill_after": share * whole.seconds}
            ended = qff(COMMANDS[name], directory, self.prints, **when)
            struck += ended.code == -signal.SIGKILL
            problem = self.problem(name, directory, ended, expected)
            problems += [f"{when}: {problem}"] if problem else []
            say(f"{name}: kill {index + 1}/{count} {when}: {problem or 'survived'}")
        return {
            "fault": "SIGKILL", "command": name, "tried": count, "survived": count - len(problems),
            "remark": f"{struck} before the end", "problems": problems,
        }  # fmt: skip

    def problem(self, name, directory, ended, expected):
        """What a kill has spoilt, if anything."""
        if "Traceback" in ended.stderr:
            return f"traceback before the kill: {ended.stderr[-500:]}"
        if found := damaged(directory):
            return f"damaged: {'; '.join(found)}"
        command, done = resume(name, directory)
        if command:
            again = qff(command, directory, self.prints)
            if again.code:
                return f"resuming ended with {again.code}: {again.stderr[-500:]}"
            units = kept(name, json.loads(again.stdout.splitlines()[-1]))
            if done is not None and units != done:
                return f"{done} units were on disk, {units} were kept"
            if left := [str(path) for path in directory.rglob("*.partial")]:
                return f"left behind: {left}"
        return difference(results(directory), expected)


def record(row):
    """Put a row into the file of results."""
    document = models.recorded("faults") or {"rows": []}
    others = [old for old in document["rows"] if (old["fault"], old["command"]) != (row["fault"], row["command"])]
    document = {"python": platform.python_version(), "rows": [*others, row]}
    models.record("faults", document)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="kills of each command")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="two kills of qff md; nothing is written")
    chosen = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="qff-faults-") as name:
        workshop = Workshop(Path(name))
        for command in ["md"] if chosen.smoke else chosen.only:
            rng = np.random.default_rng(chosen.seed)
            rows.append(workshop.kill(command, count=2 if chosen.smoke else chosen.kills, rng=rng))
            if not chosen.smoke:
                record(rows[-1])
    for row in rows:
        print(f"{row['command']}: {row['survived']} of {row['tried']} survived", *row["problems"], sep="\n  ")
    raise SystemExit(any(row["problems"] for row in rows))


if __name__ == "__main__":
    main()
