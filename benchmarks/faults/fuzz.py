"""Coverage-guided fuzzing of everything that reads a file, with atheris (`pip install atheris`).

    python benchmarks/faults/fuzz.py [--reader model ...] [--minutes 5] [--smoke]

Begins from good files that the package has just written. A reader may raise a QFFError and nothing else, and must not
take more than 4 GiB or 20 s. With --smoke the same readers get randomly spoilt files instead, without atheris.
"""

import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

if "--inside" in sys.argv:  # the package is instrumented as it is imported
    import atheris

    with atheris.instrument_imports(include=["qiskit_qff"]):
        import benchmarks.faults.suite.readers  # noqa: F401

from benchmarks.faults.suite.commands import Nursery
from benchmarks.faults.suite.inputs import BACKEND_CONFIG, CONFIG, DATA, MODEL, STRUCTURES
from benchmarks.faults.suite.kills import workshop
from benchmarks.faults.suite.readers import READERS, spoil
from qiskit_qff.errors import QFFError

MEMORY = 4 << 30


def seeds(directory: Path) -> None:
    """A good file for every reader."""
    commands = (
        ("train", BACKEND_CONFIG, "--out", "measured"),
        ("md", MODEL, DATA, "--out", "md", "--steps", "10", "--timestep", "2"),
        ("label", STRUCTURES, "--calculator", "emt", "--out", "labels.extxyz"),
        ("calibrate", MODEL, "--backend", "fake_manila", "--shots", "20", "--run", "run", "--out", "calibrated.json"),
    )
    with Nursery() as nursery, workshop(nursery) as work:
        for command in commands:
            ended = nursery.run(list(command), work / "inputs")
            if ended.code:
                raise RuntimeError(ended.stderr)
        found = {
            "model.json": "calibrated.json",
            "config.yaml": CONFIG,
            "data.extxyz": DATA,
            "trajectory.extxyz": "md/trajectory.extxyz",
            "log.csv": "md/log.csv",
            "checkpoint.npz": "md/checkpoint.npz",
            "journal.json": "measured/journal.json",
            "labels.extxyz": "labels.extxyz",
            "run.json": "run/run.json",
            "job_0.npz": "run/results/job_0.npz",
        }
        for name, source in found.items():
            shutil.copy(work / "inputs" / source, directory / name)
        shutil.copy(work / "inputs" / "run" / "model.json", directory / "run_model.json")
    import lzma

    (directory / "data.extxyz.xz").write_bytes(lzma.compress((directory / "data.extxyz").read_bytes()))
    (directory / "options.yaml").write_text("asap_cutoff: true\n")


def prepared(kind: str, files: Path, work: Path):
    """A function that gives bytes to one reader."""
    name, reader = READERS[kind]
    if kind == "run":
        shutil.copy(files / "run_model.json", work / "model.json")

    def read(content: bytes) -> bool:
        (work / name).write_bytes(content)
        try:
            reader(work / name)
        except QFFError:
            return False
        return True

    return read


def smoke(files: Path, count: int) -> None:
    """Randomly spoilt files for every reader."""
    rng = random.Random(0)  # noqa: S311 (the same spoilt files in every run)
    for kind, (name, _) in READERS.items():
        with tempfile.TemporaryDirectory() as work:
            read = prepared(kind, files, Path(work))
            content = (files / name).read_bytes()
            accepted = sum(read(spoil(content, name, rng)) for _ in range(count))
        print(f"{kind}: {count} spoilt files, {count - accepted} refused, {accepted} read")


def fuzz(kind: str, files: Path, minutes: float) -> int:
    """Fuzz one reader in a process of its own, because atheris ends the process that it runs in."""
    with tempfile.TemporaryDirectory() as corpus:
        shutil.copy(files / READERS[kind][0], corpus)
        limits = [f"-max_total_time={minutes * 60:.0f}", "-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=1"]
        command = [sys.executable, __file__, "--inside", kind, "--files", str(files), "--", *limits, corpus]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    stats = [
        line for line in done.stderr.splitlines() if "number_of_executed_units" in line or "new_units_added" in line
    ]
    print(f"{kind}: {'nothing found' if done.returncode == 0 else 'FOUND'}; {'; '.join(stats)}", flush=True)
    if done.returncode:
        print(done.stderr[-3000:], flush=True)
    return done.returncode


def inside(kind: str, files: Path, arguments: list[str]) -> None:
    """In that process."""
    read = prepared(kind, files, Path(tempfile.mkdtemp()))
    atheris.Setup([sys.argv[0], *arguments], lambda content: bool(read(content)) and None)
    atheris.Fuzz()


def main() -> None:
    """Fuzz what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--minutes", type=float, default=5.0, help="for each reader")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--files", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    if chosen.inside:
        inside(chosen.inside, chosen.files, chosen.rest)
        return
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (4 * MEMORY, 4 * MEMORY))
    with tempfile.TemporaryDirectory() as name:
        files = Path(name)
        seeds(files)
        if chosen.smoke:
            smoke(files, 10)
            return
        raise SystemExit(max(fuzz(kind, files, chosen.minutes) for kind in chosen.reader))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
