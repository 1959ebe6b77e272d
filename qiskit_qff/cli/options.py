"""Options that several verbs share, so that they are spelt and explained alike everywhere."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print the result as one JSON object on the last line of stdout."),
]
OutOption = Annotated[Path, typer.Option("--out", help="Directory to write to; made when missing.")]
CalculatorOption = Annotated[
    str,
    typer.Option(
        "--calculator",
        help="cp2k, tblite, any other of ASE (vasp, espresso, emt, ...), or package.module:factory, a Python callable "
        "that returns an ASE calculator.",
    ),
]
ForceOption = Annotated[
    bool,
    typer.Option("--force", help="Write into a directory that holds other files."),
]
MaxParametersOption = Annotated[
    int | None, typer.Option("--max-parameters", help="Limit on trainable parameters; default 99.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, say what would be done and what it takes, and stop.")
]
SourceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE", help="Data file, 'shipped' (Li-MOF-5), 'li6ps5cl', or a configuration ending in .yaml."
    ),
]
GradeLimitOption = Annotated[
    float | None,
    typer.Option("--grade-limit", help="Largest extrapolation grade, 1 at the edge of the training data; default 1.2."),
]
MitigationOption = Annotated[
    str,
    typer.Option(
        "--mitigation", help="Error mitigation, for example none or readout; exact and statevector take none alone."
    ),
]
DecouplingOption = Annotated[
    bool,
    typer.Option(
        "--dynamical-decoupling", help="Fill idle times with pulses against slow noise; for fake and IBM devices."
    ),
]
RuntimeOptions = Annotated[
    Path | None, typer.Option("--options", help="YAML file with options of the runtime's Estimator, such as twirling.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random choice.")]
ModelArgument = Annotated[
    Path, typer.Argument(metavar="MODEL", help="Model file (model.json), or the directory that holds it.")
]


def model_file(path: Path) -> Path:
    """The model file itself: ``model.json`` inside, where a directory was given."""
    return path / "model.json" if path.is_dir() else path


def with_options(options: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for each field of a dataclass, in the place of its parameter of that type."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        fields = inspect.signature(options).parameters
        parameters: dict[str, inspect.Parameter] = {}
        for parameter in inspect.signature(command).parameters.values():
            if parameter.annotation is options:
                place = parameter.name
                parameters |= {name: field.replace(kind=field.KEYWORD_ONLY) for name, field in fields.items()}
            else:
                parameters[parameter.name] = parameter

        @functools.wraps(command)
        def spread_out(**given: Any) -> None:
            chosen = options(**{name: given.pop(name) for name in fields})
            command(**{place: chosen}, **given)

        del spread_out.__wrapped__  # its parameters are not those of the command line
        spread_out.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
        spread_out.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
        return spread_out

    return decorate
