"""The entry point of ``qff``: collects the verbs and turns errors into one line and an exit code."""

import errno
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from qiskit_qff import __version__
from qiskit_qff.cli.analyse import analyse
from qiskit_qff.cli.baseline import baseline
from qiskit_qff.cli.calibrate import calibrate
from qiskit_qff.cli.cost import cost
from qiskit_qff.cli.demo import demo
from qiskit_qff.cli.evaluate import evaluate
from qiskit_qff.cli.export import export
from qiskit_qff.cli.info import info
from qiskit_qff.cli.label import label
from qiskit_qff.cli.lammps import lammps
from qiskit_qff.cli.learn import learn
from qiskit_qff.cli.md import md
from qiskit_qff.cli.report import report
from qiskit_qff.cli.select import select
from qiskit_qff.cli.train import train
from qiskit_qff.cli.validate import validate
from qiskit_qff.errors import QFFError

# Typer carries its own copy of click in newer versions, so click's error class is reached through typer's.
_ClickError: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="qff",
    help="Quantum-classical force fields with fewer than 100 trainable parameters.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut long option names off at 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},
)

_NAMELESS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""What a write may fail with where no file is named: not our fault."""

_REMEDIES = {
    errno.ENOSPC: "Free some space, or write to another disk; nothing was left half-written.",
    errno.EDQUOT: "Free some space, or write to another disk; nothing was left half-written.",
    errno.EFBIG: "Files may not grow that large here: raise 'ulimit -f', or write to another file system.",
    errno.EIO: "The disk fails: write to another one.",
    errno.EACCES: "Check the permissions, or choose another place.",
    errno.EROFS: "The file system is read-only: choose another place.",
    errno.ENOENT: "Check the path.",
}

# The verbs in the order of `qff --help`; each module is light to import.
VERBS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "label": label,
    "validate": validate,
    "train": train,
    "evaluate": evaluate,
    "info": info,
    "baseline": baseline,
    "cost": cost,
    "calibrate": calibrate,
    "md": md,
    "select": select,
    "learn": learn,
    "lammps": lammps,
    "export": export,
    "analyse": analyse,
    "report": report,
}


for _name, _function in VERBS.items():
    # The whole first sentence: what typer makes of it ends after 45 letters.
    app.command(_name, short_help=(_function.__doc__ or "").partition("\n")[0])(_function)


def _print_version(wanted: bool) -> None:
    """Print the version and stop, when asked to."""
    if wanted:
        print(f"qff {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _common(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop."),
    ] = False,
) -> None:
    """Quantum-classical force fields with fewer than 100 trainable parameters."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and give its exit code; errors of the user's go to stderr as one line."""
    try:
        code = int(
            app(args=None if arguments is None else list(arguments), prog_name="qff", standalone_mode=False) or 0
        )
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except QFFError as error:
        return _fail(str(error))
    except BrokenPipeError:
        sys.stdout = None  # the reader has gone; nothing more to flush at exit
        return 1
    except OSError as error:
        if error.filename is None and error.errno not in _NAMELESS:
            raise
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}. {_REMEDIES.get(error.errno or 0, '')}")
    except _ClickError as error:
        return _fail(_usage(error))
    if code == 130:
        sys.stderr.write("qff: interrupted\n")
    return code


def main() -> None:
    """Run the command line of this process."""
    raise SystemExit(run())


def _usage(error: Any) -> str:
    """What is wrong with an option or verb, and where its help is."""
    message = error.format_message().strip()
    if near := getattr(error, "possibilities", None):  # worded differently from version to version of typer
        message = f"{error.message.rstrip('.')}. Did you mean {' or '.join(near)}?"
    context = getattr(error, "ctx", None)
    return str(message) + (f" See '{context.command_path} --help'." if context is not None else "")


def _fail(message: str) -> int:
    """Write one line to stderr and give the exit code."""
    sys.stderr.write(f"qff: error: {' '.join(message.split())}\n")
    return 2
