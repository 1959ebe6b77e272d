"""Malformed input of every kind: refused with exit code 2, one line that says what to do, and no traceback.

    python benchmarks/malformed.py [--spoilt 10] [--smoke]

Some files are made by hand, others are good ones spoilt at random, which may also do no harm. Every command runs in a
child process. Results are written down beside those of `kills.py`.
"""

import argparse
import json
import lzma
import random
import re
import shutil
import tempfile
from pathlib import Path

from kills import Workshop, qff, record

TRAIN, INFO = ["train", "exact.yaml", "--out", "new"], ["info", "model"]
MD = ["md", "model", "data.extxyz", "--out", "dynamics", "--steps", "12", "--timestep", "2"]
MEASURED = ["train", "measured.yaml", "--out", "measured", "--resume"]
CALIBRATE = ["calibrate", "model", "--backend", "fake_manila", "--shots", "20", "--run", "run", "--out", "new.json"]
LABEL = ["label", "bare.extxyz", "--calculator", "emt", "--out", "l.extxyz", "--resume"]
PREPARE = [MEASURED[:-1], [*MD[:-3], "10", *MD[-2:]], [*CALIBRATE[:-1], "calibrated.json"]]
MODEL, HEADER = "model/model.json", 'Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3'


def changed(*steps, to):
    """A JSON document with one entry changed."""

    def change(content):
        document = inside = json.loads(content)
        for step in steps[:-1]:
            inside = inside[step]
        inside[steps[-1]] = to
        return json.dumps(document).encode()

    return change


def half(content):
    """The first half of a file."""
    return content[: len(content) // 2]


SPECIES, REGISTER = ("species", 0), ("species", 0, "registers", 0)
CASES = [
    (MODEL, INFO, change)
    for change in (
        changed(*SPECIES, "reference_energy", to=float("nan")),
        changed(*REGISTER, "theta", 0, to=float("inf")),
        changed(*REGISTER, "theta", to="os.system('true')"),
        changed(*REGISTER, "theta", to=[[[[[1.0]]]]]),
        changed(*REGISTER, "ansatz", "n_amplitudes", to=2**40),
        changed(*REGISTER, "ansatz", "layers", to=10**9),
        changed(*REGISTER, "ansatz", "n_amplitudes", to=-4),
        changed("r_cut", to=1e13),
        changed("r_cut", to=None),
        changed(*SPECIES, "number", to=1000),
        changed("species", 1, "number", to=29),
        changed(*SPECIES, "compression", "channels", "triples", to=[[10**12, 0, 0]]),
        changed(*SPECIES, "compression", "channels", to={}),
        changed("format", to="other"),
        changed("version", to=99),
        lambda content: re.sub(rb'"version": \d+', b'"version": ' + b"9" * 5000, content),
        lambda content: content.replace(b'"r_cut": 4.0', b'"r_cut": 1e999'),
        lambda content: content.decode().encode("utf-16"),
        lambda _: b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        lambda _: b" " * (64 * 1024 * 1024 + 1),
        b"[" * 100_000,
        b"[1, 2, 3]",
        half,
        b"",
    )
]
BOMB = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))
CASES += [
    ("exact.yaml", [*TRAIN, "--dry-run"], text.encode() if isinstance(text, str) else text)
    for text in (
        "dta: {path: data.extxyz}",
        "data: {path: data.extxyz, fraction: 0.2}",
        "data: {path: data.extxyz}\nseed: many",
        "data: {path: data.extxyz}\nseed: -1",
        "data: {path: data.extxyz, test_fraction: .nan}",
        "data: {path: data.extxyz}\ncircuit: {n_qubits: 40}",
        "- data",
        "data: [1, 2",
        "data: !!python/object/apply:os.system ['true']",
        f"a0: &a0 [x]\n{BOMB}\ndata: *a9",
        "data: &a [*a]",
        f"seed: {'9' * 5000}",
        "data: " + "[" * 10_000,
        b"data: \xff\xfe",
        "data: {path: nowhere.extxyz}",
    )
]
CASES += [
    ("data.extxyz", TRAIN, text.encode() if isinstance(text, str) else text)
    for text in (
        "",
        "many\nheader\n",
        f"-1\n{HEADER}\n",
        f"{10**18}\n{HEADER}\nCu 0 0 0\n",
        f"3\n{HEADER}\nCu 0 0 0\n",
        f"1\n{HEADER}\nXq 0 0 0\n",
        f"1\n{HEADER}\nCu nan 0 0\n",
        f"1\n{HEADER}\nCu a b c\n",
        "1\n" + HEADER.replace(' 4"', '"') + "\nCu 0 0 0\n",
        "1\n" + HEADER.replace('0 0 4"', '0 0 0"') + ' pbc="T T T"\nCu 0 0 0\n',
        "1\nProperties=species:S:1:pos:X:3\nCu 0 0 0\n",
        "1\nProperties=species:S:1:pos:R:3:forces:R:1000000000\nCu 0 0 0\n",
        '1\nLattice="4 0 0\nCu 0 0 0\n',
        bytes(range(256)),
    )
]
CASES += [
    ("data.extxyz.xz", ["validate", "data.extxyz.xz"], lambda _: lzma.compress(b"8\n" * 999)[:-20]),
    ("measured/jobs/journal.jsonl", MEASURED, lambda content: content.replace(b'"gauss_newton"', b'"spsa"')),
    ("measured/jobs/journal.jsonl", MEASURED, lambda content: content.replace(b"\n", b"}\n", 1)),
    ("measured/jobs/journal.jsonl", MEASURED, b"[]\n"),
    ("dynamics/checkpoint.npz", MD, half),
    ("dynamics/checkpoint.npz", MD, b""),
    ("dynamics/trajectory.extxyz", MD, half),
    ("dynamics/log.csv", MD, half),
    ("l.extxyz", LABEL, b"hello\n"),
    ("l.extxyz", LABEL, b"1" + b"0" * 30 + b"\n"),
    ("run/job_0.npz", CALIBRATE, half),
    ("run/journal.jsonl", CALIBRATE, lambda content: content.replace(b'"shots": 20', b'"shots": 21')),
    ("run/journal.jsonl", CALIBRATE, lambda content: content.replace(b'"result": {', b'"result": [{')),
    ("run/journal.jsonl", CALIBRATE, b'{"step": "settings", "result": 3}\n'),
]
"""File, command that reads it, and its content, or what becomes of the content that it had."""
SPOILT = [
    (MODEL, INFO),
    (MODEL, ["evaluate", "model", "data.extxyz"]),
    ("exact.yaml", [*TRAIN, "--dry-run"]),
    ("data.extxyz", ["validate", "data.extxyz"]),
    ("measured/jobs/journal.jsonl", MEASURED),
    ("dynamics/checkpoint.npz", MD),
    ("dynamics/log.csv", MD),
    ("run/job_0.npz", CALIBRATE),
]
"""Files that are also spoilt at random, and who reads them."""


def spoil(content, rng):
    """Change, cut out, repeat or insert a few bytes, or cut the end off."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        place, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 8, 64, 1000))
        odd = rng.choice((b"nan", b"1e999", b"-", b"\x00", b"\n", b"[[[[", b'"', b"99999999999", b"inf"))
        data[place : place + length] = rng.choice((b"", odd, data[place : place + length] * 2, rng.randbytes(length)))
    return bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.1 else data)


def refusal_problem(ended):
    """What is wrong with how a command refused its input, if anything."""
    lines = ended.stderr.strip().splitlines()
    if "Traceback" in ended.stderr or not lines:
        return f"exit code {ended.code}: {ended.stderr[-300:]!r}"
    return None if ended.code == 2 and lines[-1].startswith("qff: error: ") else f"{ended.code}: {lines[-1][:300]!r}"


def give(workshop, path, command, content, execute):
    """Put content in its place in a fresh copy of the inputs and have it read."""
    file = workshop.fresh(workshop.inputs.with_name("prepared")) / path
    before = file.read_bytes() if file.exists() else b""
    file.write_bytes(content(before) if callable(content) else content)
    return execute(command, workshop.run, workshop.prints)


def malformed(workshop, *, cases, spoilt, execute=qff, say=print):
    """Two rows of the table: files made by hand, and so many spoilt at random of each kind."""
    prepared = workshop.inputs.with_name("prepared")  # apart from the inputs, which kills and other tests start from
    if not prepared.exists():
        shutil.copytree(workshop.inputs, prepared)
        for command in PREPARE:
            workshop.do(command, prepared)
    problems, harmless, random_problems = [], 0, []
    for path, command, content in cases:
        ended = give(workshop, path, command, content, execute)
        problem = refusal_problem(ended)
        say(f"{path}: {problem or ended.stderr.strip().splitlines()[-1][:150]}")
        problems += [f"{path}: {problem}"] if problem else []
    rng = random.Random(0)  # noqa: S311 - the same spoilt files in every run
    for path, command in SPOILT:
        for _ in range(spoilt):
            ended = give(workshop, path, command, lambda content: spoil(content, rng), execute)
            harmless += ended.code == 0
            problem = None if ended.code == 0 and "Traceback" not in ended.stderr else refusal_problem(ended)
            random_problems += [f"{path}: {problem}"] if problem else []
    tried = len(SPOILT) * spoilt
    told = f"{tried - harmless} refused, the others did no harm"
    return [
        {"fault": "malformed input", "command": name, "tried": count, "survived": count - len(found), "remark": remark,
         "problems": found}
        for name, count, remark, found in (
            ("made by hand", len(cases), "", problems), ("spoilt at random", tried, told, random_problems)
        )
    ]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spoilt", type=int, default=10, help="files of each kind spoilt at random")
    parser.add_argument("--smoke", action="store_true", help="a few cases; nothing is written")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qff-faults-") as name:
        cases, spoilt = (CASES[::10], 0) if chosen.smoke else (CASES, chosen.spoilt)
        rows = malformed(Workshop(Path(name)), cases=cases, spoilt=spoilt)
    for row in rows:
        print(f"{row['command']}: {row['survived']} of {row['tried']} survived", *row["problems"], sep="\n  ")
        if not chosen.smoke:
            record(row)
    raise SystemExit(any(row["problems"] for row in rows))


if __name__ == "__main__":
    main()
