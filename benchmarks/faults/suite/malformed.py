"""Malformed input of every kind: refused with exit code 2, one line that names the file, and no traceback."""

import json
import lzma
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.suite.commands import Nursery
from benchmarks.faults.suite.inputs import BACKEND_CONFIG, CONFIG, DATA, MODEL, STRUCTURES
from benchmarks.faults.suite.kills import workshop
from benchmarks.faults.suite.outcomes import TRACEBACK, Outcome, refusal_problem
from benchmarks.faults.suite.readers import spoil

_TRAIN = ("train", CONFIG, "--out", "new", "--dry-run")
_MD = ("md", MODEL, DATA, "--out", "dynamics", "--steps", "12", "--timestep", "2")
_MEASURED = ("train", BACKEND_CONFIG, "--out", "measured")
_CALIBRATE = ("calibrate", MODEL, "--backend", "fake_manila", "--shots", "20", "--run", "run", "--out")
_PREPARE = (
    ("train", BACKEND_CONFIG, "--out", "measured"),
    (*_MD[:-3], "10", *_MD[-2:]),
    (*_CALIBRATE, "calibrated.json"),
)
_HEADER = 'Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3'


@dataclass(frozen=True)
class Case:
    """One file that is not as it should be."""

    name: str
    """What is wrong."""
    path: str
    """The file, below the working directory."""
    content: Callable[[bytes], bytes]
    """What it holds, given what it held."""
    command: tuple[str, ...]
    """Who reads it."""


def text(content: str) -> Callable[[bytes], bytes]:
    """Other content altogether."""
    return lambda _: content.encode()


def changed(*steps: str | int, to: object) -> Callable[[bytes], bytes]:
    """A JSON document with one entry changed."""

    def change(content: bytes) -> bytes:
        document = inside = json.loads(content)
        for step in steps[:-1]:
            inside = inside[step]
        inside[steps[-1]] = to
        return json.dumps(document).encode()

    return change


def half(content: bytes) -> bytes:
    """The first half."""
    return content[: len(content) // 2]


def _models() -> Iterator[Case]:
    """Model files."""
    species = ("species", 0)
    register = (*species, "registers", 0)
    changes = {
        "NaN": changed(*species, "reference_energy", to=float("nan")),
        "infinite angle": changed(*register, "theta", 0, to=float("inf")),
        "cutoff of a kilometre": changed("r_cut", to=1e13),
        "no cutoff": changed("r_cut", to=None),
        "2^40 amplitudes": changed(*register, "ansatz", "n_amplitudes", to=2**40),
        "a billion layers": changed(*register, "ansatz", "layers", to=10**9),
        "a billion readouts": changed(*register, "ansatz", "n_readouts", to=10**9),
        "negative amplitudes": changed(*register, "ansatz", "n_amplitudes", to=-4),
        "element 0": changed(*species, "number", to=0),
        "element 1000": changed(*species, "number", to=1000),
        "an element twice": changed("species", 1, "number", to=29),
        "number of 400 digits": lambda content: content.replace(b'"r_cut": 4.0', b'"r_cut": ' + b"9" * 400),
        "number of 5000 digits": lambda content: re.sub(rb'"version": \d+', b'"version": ' + b"9" * 5000, content),
        "1e999": lambda content: content.replace(b'"r_cut": 4.0', b'"r_cut": 1e999'),
        "lists nested 100,000 deep": text("[" * 100_000),
        "nested matrix": changed(*register, "theta", to=[[[[[1.0]]]]]),
        "text for numbers": changed(*register, "theta", to="os.system('true')"),
        "a pickle": lambda _: b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        "a list": text("[1, 2, 3]"),
        "another format": changed("format", to="other"),
        "a later version": changed("version", to=99),
        "channel of slot 10^12": changed(*species, "compression", "channels", "triples", to=[[10**12, 0, 0]]),
        "degree 100": changed(*species, "compression", "channels", "triples", to=[[0, 0, 100]]),
        "no channels": changed(*species, "compression", "channels", to={}),
        "cut off": half,
        "empty": text(""),
        "64 MB of spaces": lambda _: b" " * (64 * 1024 * 1024 + 1),
        "UTF-16": lambda content: content.decode().encode("utf-16"),
    }
    for name, change in changes.items():
        yield Case(f"model: {name}", f"{MODEL}/model.json", change, ("info", MODEL))


def _configurations() -> Iterator[Case]:
    """Configurations."""
    bomb = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))
    contents = {
        "unknown section": "dta: {path: data.extxyz}",
        "unknown key": f"data: {{path: {DATA}, fraction: 0.2}}",
        "text for a number": f"data: {{path: {DATA}}}\nseed: many",
        "negative seed": f"data: {{path: {DATA}}}\nseed: -1",
        "NaN": f"data: {{path: {DATA}, test_fraction: .nan}}",
        "40 qubits": f"data: {{path: {DATA}}}\ncircuit: {{n_qubits: 40}}",
        "a list": "- data",
        "no YAML": "data: [1, 2",
        "Python object": "data: !!python/object/apply:os.system ['true']",
        "aliases that unfold to a billion": f"a0: &a0 [x]\n{bomb}\ndata: *a9",
        "recursive alias": "data: &a [*a]",
        "number of 5000 digits": f"seed: {'9' * 5000}",
        "impossible date": "data: 2001-99-99",
        "nested 10,000 deep": "data: " + "[" * 10_000,
        "a byte that is no UTF-8": "",
        "missing data file": "data: {path: nowhere.extxyz}",
    }
    for name, content in contents.items():
        change = text(content) if content else (lambda _: b"data: \xff\xfe")
        yield Case(f"configuration: {name}", CONFIG, change, _TRAIN)


def _structures() -> Iterator[Case]:
    """Structure files."""
    contents = {
        "empty": "",
        "no number": "many\nheader\n",
        "negative number": f"-1\n{_HEADER}\n",
        "10^18 atoms": f"{10**18}\n{_HEADER}\nCu 0 0 0\n",
        "fewer atoms than it says": f"3\n{_HEADER}\nCu 0 0 0\n",
        "unknown element": f"1\n{_HEADER}\nXq 0 0 0\n",
        "NaN position": f"1\n{_HEADER}\nCu nan 0 0\n",
        "position out of range": f"1\n{_HEADER}\nCu 1e999 0 0\n",
        "text for a position": f"1\n{_HEADER}\nCu a b c\n",
        "cell of eight numbers": "1\n" + _HEADER.replace(' 4"', '"') + "\nCu 0 0 0\n",
        "cell of no volume": "1\n" + _HEADER.replace('0 0 4"', '0 0 0"') + ' pbc="T T T"\nCu 0 0 0\n',
        "columns of a wrong kind": "1\nProperties=species:S:1:pos:X:3\nCu 0 0 0\n",
        "a billion columns": "1\nProperties=species:S:1:pos:R:3:forces:R:1000000000\nCu 0 0 0\n",
        "quote without end": '1\nLattice="4 0 0\nCu 0 0 0\n',
    }
    for name, content in contents.items():
        yield Case(f"structures: {name}", DATA, text(content), ("train", CONFIG, "--out", "new"))
    yield Case(
        "structures: cut-off archive",
        f"{DATA}.xz",
        lambda _: lzma.compress(b"8\n" * 999)[:-20],
        ("validate", f"{DATA}.xz"),
    )
    yield Case("structures: binary", DATA, lambda _: bytes(range(256)), ("validate", DATA))


def _journals() -> Iterator[Case]:
    """What commands go on with."""
    resume, labels = (
        (*_MEASURED, "--resume"),
        ("label", STRUCTURES, "--calculator", "emt", "--out", "l.extxyz", "--resume"),
    )
    journal, plan = "measured/journal.json", "run/run.json"
    yield Case("training journal: cut off", journal, half, resume)
    yield Case("training journal: other angles", journal, changed("entries", 0, "angles", to=[1.0]), resume)
    yield Case("training journal: text for a loss", journal, changed("entries", 0, "loss", to="low"), resume)
    yield Case("training journal: no state", journal, changed("entries", 0, "random", to={}), resume)
    yield Case("training journal: a list", journal, text("[]"), resume)
    yield Case("checkpoint: cut off", "dynamics/checkpoint.npz", half, _MD)
    yield Case("checkpoint: empty", "dynamics/checkpoint.npz", text(""), _MD)
    yield Case("trajectory: shorter than at the checkpoint", "dynamics/trajectory.extxyz", half, _MD)
    yield Case("log: shorter than at the checkpoint", "dynamics/log.csv", half, _MD)
    yield Case("labels: no structures", "l.extxyz", text("hello\n"), labels)
    yield Case("labels: 10^30 atoms", "l.extxyz", text(f"{10**30}\n"), labels)
    yield Case("run: cut off", plan, half, (*_CALIBRATE, "new.json"))
    yield Case("run: later format", plan, changed("format", to=99), (*_CALIBRATE, "new.json"))
    yield Case("run: jobs of text", plan, changed("jobs", to="none"), (*_CALIBRATE, "new.json"))
    yield Case("run: another model", "run/model.json", text("{}"), (*_CALIBRATE, "new.json"))


SPOILT: tuple[tuple[str, tuple[str, ...]], ...] = (
    (f"{MODEL}/model.json", ("info", MODEL)),
    (f"{MODEL}/model.json", ("evaluate", MODEL, DATA)),
    (CONFIG, _TRAIN),
    (DATA, ("validate", DATA)),
    (DATA, ("evaluate", MODEL, DATA)),
    ("measured/journal.json", (*_MEASURED, "--resume")),
    ("dynamics/checkpoint.npz", _MD),
    ("dynamics/log.csv", _MD),
    ("run/run.json", (*_CALIBRATE, "new.json")),
    ("run/journal.jsonl", (*_CALIBRATE, "new.json")),
)
"""Files that are also spoilt at random, and who reads them."""


def malformed_inputs(
    *, say: Callable[[str], None], spoilt: int = 10, cases: Callable[[Case], bool] = lambda _: True
) -> list[Outcome]:
    """All cases, and so many random ones of each kind."""
    made, fuzzed = Outcome("malformed input", "made by hand"), Outcome("malformed input", "spoilt at random")
    with Nursery() as nursery, workshop(nursery) as work:
        for command in _PREPARE:
            ended = nursery.run(list(command), work / "inputs")
            if ended.code != 0:
                raise RuntimeError(f"{' '.join(command)} failed without any fault: {ended.stderr}")
        for case in filter(cases, (*_models(), *_configurations(), *_structures(), *_journals())):
            code, stderr = _read(nursery, work, case.path, case.content, case.command)
            problem = refusal_problem(code, stderr)
            made.add(problem and f"{case.name}: {problem}")
            say(f"{case.name}: {problem or stderr.strip().splitlines()[-1][:150]}")
        rng, refused = random.Random(0), 0  # noqa: S311 (the same spoilt files in every run)
        for path, command in SPOILT:
            for _ in range(spoilt):
                code, stderr = _read(nursery, work, path, lambda content, name=path: spoil(content, name, rng), command)
                problem = TRACEBACK in stderr or code != 0
                refused += code == 2
                fuzzed.add(
                    f"{path}: {refusal_problem(code, stderr)}" if problem and refusal_problem(code, stderr) else None
                )
        fuzzed.remark = f"{refused} refused, the others did no harm"
    return [made, fuzzed]


def _read(
    nursery: Nursery, work: Path, path: str, content: Callable[[bytes], bytes], command: tuple[str, ...]
) -> tuple[int, str]:
    """Put the content in its place, have it read, and put everything back."""
    directory = work / "bench"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(work / "inputs", directory)
    file = directory / path
    file.write_bytes(content(file.read_bytes() if file.exists() else b""))
    ended = nursery.run(list(command), directory)
    return ended.code, ended.stderr
