"""``qff label``: energies, forces and stresses from a reference program."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qiskit_qff.cli.options import JsonOption
from qiskit_qff.cli.output import Output
from qiskit_qff.cli.output_directory import check_frames_file
from qiskit_qff.cores import n_cores
from qiskit_qff.durable import write_atomically
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from qiskit_qff.labelling.labels import Labeller
    from qiskit_qff.labelling.run import LabelReport
    from qiskit_qff.structures.frame import Frame

_SHOWN = 5


def label(
    structures: Annotated[list[Path], typer.Argument(metavar="STRUCTURES", help="Files of structures to label.")],
    *,
    calculator: Annotated[
        str, typer.Option("--calculator", help="cp2k, tblite, or any of ASE: vasp, espresso, gpaw, emt, ...")
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write, extended XYZ; failures go to a second one.")],
    options: Annotated[Path | None, typer.Option("--options", help="YAML file with the calculator's settings.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Frames labelled at the same time.")] = 1,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="Threads per worker; default OMP_NUM_THREADS, or all cores shared."),
    ] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0.1, help="Seconds that a frame may take.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the file: label what it lacks.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="With --resume, try frames again that failed before.")
    ] = False,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Directory for what the program read and wrote for each frame.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, show CP2K's first input, and stop.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Label structures, written one by one: a kill loses only the frame at hand. Exit code 1 if some failed."""
    from qiskit_qff.labelling.options import read_options
    from qiskit_qff.labelling.registry import make_labeller
    from qiskit_qff.labelling.run import label_frames
    from qiskit_qff.structures.validation import ensure_sound

    output = Output(as_json=json)
    _refuse_surprises(out, structures, resume=resume, retry_failed=retry_failed)
    chosen = read_options(calculator, options)
    labeller = make_labeller(calculator, chosen)
    labeller.check()
    frames = _read(structures)
    ensure_sound(frames)
    threads = threads or _default_threads(workers)
    output.say(
        f"labelling    {len(frames)} frames with {labeller.name}: {labeller.level} (settings {labeller.settings_hash})"
    )
    if caution := chosen.caution():
        output.note(caution)
    if dry_run:
        _show(labeller, frames, output, workers=workers, threads=threads)
        return
    if not out.exists():  # else they are there, or about to be refused
        _write_settings(out, chosen.relevant(), labeller)
    try:
        with output.progress("labelling") as advance:
            report = label_frames(
                frames,
                labeller,
                out,
                workers=workers,
                threads=threads,
                timeout=timeout,
                retry_failed=retry_failed,
                keep=keep,
                progress=lambda n, bad, total: advance("", n, total, detail=f"{bad} failed"),
            )
    except KeyboardInterrupt:
        output.note(f"what was finished is in {out}; the same command with --resume goes on")
        raise
    _tell(report, labeller, out, output)


def _write_settings(out: Path, settings: dict[str, object], labeller: "Labeller") -> None:
    """Write all settings that the labels depend on beside them, defaults included, so that they can be redone."""
    import yaml

    head = f"# Settings of {out.name}: --calculator {labeller.name}, hash {labeller.settings_hash}\n"
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out.with_name(f"{out.stem}.settings.yaml"), head + text)


def _refuse_surprises(out: Path, structures: list[Path], *, resume: bool, retry_failed: bool) -> None:
    """Refuse, before any work is done, to touch a file that is not meant, or to resume nothing.

    Raises:
        ConfigError: then.
    """
    from qiskit_qff.labelling.run import failures_path

    check_frames_file(out)
    for path in structures:
        if path.resolve() in {out.resolve(), failures_path(out).resolve()}:
            raise ConfigError(f"--out {out}: {path} would be read and written at once. Choose another --out.")
    for path in (out, failures_path(out)):
        if path.exists() and not resume:
            raise ConfigError(f"{path}: there is a file already. Go on with it by --resume, or choose another --out.")
    if retry_failed and not resume:
        raise ConfigError("--retry-failed: only together with --resume.")


def _default_threads(workers: int) -> int:
    """Threads per worker: what OMP_NUM_THREADS says, else all cores shared between the workers."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return max(1, n_cores() // workers)


def _read(paths: list[Path]) -> "list[Frame]":
    """All frames.

    Raises:
        DataError: if a file can't be read.
    """
    from qiskit_qff.structures.shipped import read_source

    return [frame for path in paths for frame in read_source(path)]


def _show(labeller: "Labeller", frames: "list[Frame]", output: Output, *, workers: int, threads: int) -> None:
    """What would be done."""
    from qiskit_qff.labelling.cp2k import Cp2kLabeller
    from qiskit_qff.labelling.cp2k_input import cp2k_input
    from qiskit_qff.labelling.labels import LabelError

    text = None
    if isinstance(labeller, Cp2kLabeller):
        try:
            text = cp2k_input(frames[0], labeller.options, from_previous=False)
        except LabelError as error:
            raise ConfigError(f"{frames[0].where}: {error.message}.") from None
        output.say(text.rstrip())
    output.say(f"workers      {workers}, each with {threads} threads; nothing was run")
    output.finish({"n_frames": len(frames), "settings": labeller.settings_hash, "level": labeller.level, "input": text})


def _tell(report: "LabelReport", labeller: "Labeller", out: Path, output: Output) -> None:
    """What became of the frames, and the exit code.

    Raises:
        typer.Exit: with code 1, if some have no label.
    """
    from qiskit_qff.labelling.run import failures_path, work_path

    output.say(f"labelled     {report.n_labelled} now, {report.n_kept} before, {len(report.failures)} failed")
    if report.seconds:
        mean = sum(report.seconds) / len(report.seconds)
        output.say(f"time         {mean:.3g} s a frame, {max(report.seconds):.3g} s the longest")
    for failure in report.failures[:_SHOWN]:
        output.note(f"frame {failure.index} ({failure.source}): {failure.kind}: {failure.message}")
    if len(report.failures) > _SHOWN:
        output.note(f"... and {len(report.failures) - _SHOWN} more")
    failures = failures_path(out) if report.failures else None
    kept = work_path(out) / "failed"
    if failures is not None and kept.is_dir():
        output.note(f"what the program read and wrote for frames that failed: {kept}")
    if out.exists():
        output.say(f"written      {out}")
    if failures is not None:
        output.say(f"failures     {failures}; try them again with --resume --retry-failed")
    output.finish(
        {
            "file": out if out.exists() else None,
            "n_frames": report.n_frames,
            "n_labelled": report.n_labelled,
            "n_kept": report.n_kept,
            "n_failed": len(report.failures),
            "failures": report.failures,
            "failures_file": failures,
            "calculator": labeller.name,
            "level": labeller.level,
            "settings": labeller.settings_hash,
            "seconds_per_frame": sum(report.seconds) / len(report.seconds) if report.seconds else None,
        }
    )
    if report.failures:
        raise typer.Exit(1)
