"""``qff label``: energies, forces and stresses from a reference calculator."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qiskit_qff.cli.options import CalculatorOption, DryRunOption, JsonOption
from qiskit_qff.cli.output import Output, check_frames_file
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from qiskit_qff.labelling.label import LabelReport
    from qiskit_qff.labelling.reference import Reference

_SHOWN = 5


def label(
    structures: Annotated[list[Path], typer.Argument(metavar="STRUCTURES", help="Files of structures to label.")],
    *,
    calculator: CalculatorOption,
    out: Annotated[Path, typer.Option("--out", help="File to write, extended XYZ; failures go to a second one.")],
    options: Annotated[Path | None, typer.Option("--options", help="YAML file with the calculator's settings.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Frames labelled at the same time.")] = 1,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="Threads per worker; default OMP_NUM_THREADS, or all cores shared."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.1, help="Time limit per frame in seconds.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the file: label what is missing.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="With --resume, try failed frames again.")
    ] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Label structures, written one by one: a kill loses only the frames at hand. Exit code 1 if some failed."""
    from qiskit_qff.labelling.label import failures_path, label_frames, work_path
    from qiskit_qff.labelling.reference import reference
    from qiskit_qff.structures.dataset import read_frames
    from qiskit_qff.structures.validation import ensure_sound

    output = Output(as_json=json)
    check_frames_file(out)
    written = (out, failures_path(out))
    for path in structures:
        if path.resolve() in {place.resolve() for place in written}:
            raise ConfigError(f"--out {out}: {path} would be read and written at once. Choose another --out.")
    for path in written:
        if path.exists() and not resume:
            raise ConfigError(f"{path}: already exists. Continue it with --resume, or choose another --out.")
    chosen = reference(calculator, options)
    frames = read_frames(structures)
    ensure_sound(frames)
    if threads is None:
        import numba  # takes half a second

        asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
        threads = int(asked) if asked.isdecimal() and int(asked) else max(1, numba.get_num_threads() // workers)
    output.say(
        f"labelling    {len(frames)} frames with {chosen.name}: {chosen.level} (settings {chosen.settings_hash})"
    )
    chosen.check()
    if dry_run:
        output.say(
            f"workers      {workers}, {threads} threads each; the calculator can be set up; nothing was labelled"
        )
        output.finish({"n_frames": len(frames), "settings": chosen.settings_hash, "level": chosen.level})
        return
    output.note(f"the calculator works in {work_path(out)}")  # on stderr, which is not held back in a log
    output.note("what is finished stays when it is stopped: the same command with --resume continues")
    with output.progress("labelling") as advance:
        report = label_frames(
            frames, chosen, out, workers=workers, threads=threads, timeout=timeout, retry_failed=retry_failed,
            progress=lambda n, bad, total: advance("", n, total, detail=f"{bad} failed"),
        )  # fmt: skip
    _tell(report, chosen, out, output)


def _tell(report: "LabelReport", chosen: "Reference", out: Path, output: Output) -> None:
    """What became of the frames, and the exit code."""
    from qiskit_qff.labelling.label import failures_path, work_path

    mean = sum(report.seconds) / len(report.seconds) if report.seconds else None
    output.say(f"labelled     {report.n_labelled} now, {report.n_kept} before, {len(report.failures)} failed")
    if mean is not None:
        output.say(f"time         {mean:.3g} s per frame, longest {max(report.seconds):.3g} s")
    for failure in report.failures[:_SHOWN]:
        output.note(f"frame {failure['index']} ({failure['source']}): {failure['reason']}")
    if out.exists():
        output.say(f"written      {out}")
    if report.failures:
        output.note(f"output of the calculator: {work_path(out)}")
        output.say(f"failures     {failures_path(out)}; try them again with --resume --retry-failed")
    output.finish(
        {
            "file": out if out.exists() else None,
            "n_frames": report.n_frames,
            "n_labelled": report.n_labelled,
            "n_kept": report.n_kept,
            "n_failed": len(report.failures),
            "failures": report.failures,
            "failures_file": failures_path(out) if report.failures else None,
            "calculator": chosen.name,
            "level": chosen.level,
            "settings": chosen.settings_hash,
            "seconds_per_frame": mean,
        }
    )
    if report.failures:
        raise typer.Exit(1)
