"""``qff schema``: the JSON Schema of training configurations, for editors and other programs."""

from qiskit_qff.cli.options import JsonOption
from qiskit_qff.cli.output import Output


def schema(
    *,
    json: JsonOption = False,
) -> None:
    """Print the JSON Schema of the training configuration; --json prints it on one line."""
    import json as text

    from qiskit_qff.model.config_text import config_schema

    output, found = Output(as_json=json), config_schema()
    if json:
        output.finish(found)
    else:
        output.say(text.dumps(found, indent=2, ensure_ascii=False))
