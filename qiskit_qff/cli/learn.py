"""``qff learn``: molecular dynamics, labels and training in turn, until the model stays inside what it knows."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qiskit_qff.cli.options import DryRunOption, ForceOption, JsonOption, OutOption
from qiskit_qff.cli.output import Output, check_output_directory, json_text
from qiskit_qff.durable import write_atomically
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from qiskit_qff.learning.config import LearnConfig
    from qiskit_qff.learning.run import Record

SUMMARY, CONFIG = "learn.json", "config.yaml"
OWN_FILES = (
    "journal.jsonl", "labels.extxyz", "labels.failures.extxyz", "labels.settings.yaml", ".labels.extxyz.work", "rounds",
    "model.json", "learning.html", "report.html", SUMMARY, CONFIG,
)  # fmt: skip


def learn(
    source: Annotated[Path, typer.Argument(metavar="CONFIG", help="Configuration, YAML.")],
    *,
    out: OutOption,
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Label what molecular dynamics finds most uncertain and train again, until nothing new is found.

    The same command goes on where a run was stopped, with other 'stop' settings too.
    """
    from qiskit_qff.learning.config import load_learn_config
    from qiskit_qff.learning.run import learn as run
    from qiskit_qff.learning.run import read_inputs

    output = Output(as_json=json)
    config = load_learn_config(source)
    check_output_directory(out, owned=OWN_FILES, force=force or (out / "journal.jsonl").exists())
    reference = config.label.reference()
    if config.train.loss.stress_scale_mev_per_ang3 is not None and reference.settings.get("stress") is False:
        raise ConfigError(
            "train.loss.stress_scale_mev_per_ang3 is set, but labels would have no stress; set label.options.stress: "
            "true, or leave the scale out"
        )
    reference.check()
    inputs = read_inputs(config)
    output.say(f"labels       {reference.name}: {reference.level} (settings {reference.settings_hash})")
    output.say(
        f"start        {len(inputs.start)} frames, {len(inputs.test)} more held out; "
        f"at most {config.stop.labels} labels and {config.stop.rounds} rounds"
    )
    output.say(
        f"dynamics     {config.md.time_ps:g} ps of {config.md.ensemble} at "
        f"{', '.join(f'{t:g}' for t in config.md.temperatures_k)} K, "
        f"{config.md.repeats} run(s) each, from {len(inputs.md)} structures in turn"
    )
    if dry_run:
        output.say(_as_yaml(config).rstrip())
        output.finish({"config": config.model_dump(mode="json"), "settings": reference.settings_hash})
        return
    out.mkdir(parents=True, exist_ok=True)

    try:
        with output.progress("active learning") as advance:
            say = partial(_say_round, output)
            learnt = run(config, inputs, reference, out, progress=advance, after_round=say)
    except KeyboardInterrupt:
        output.note("stopped; the same command goes on from there")
        raise
    write_atomically(out / CONFIG, _as_yaml(config))
    result = learnt | {
        "model": out / "model.json",
        "labels": out / "labels.extxyz",
        "calculator": reference.name,
        "level": reference.level,
        "settings": reference.settings_hash,
    }
    write_atomically(out / SUMMARY, json_text(result))
    output.say(f"ended        {learnt['reason_in_words']}")
    output.say(
        f"labels       {learnt['n_labels']}, {learnt['n_failed']} failed; last model trained on {learnt['n_train']}"
    )
    if (final := learnt["held_out"][-1]) is not None:
        output.say(
            f"held out     {final['n_frames']} frames: energy MAE {final['energy_mae_mev_per_atom']:.2f} meV/atom, "
            f"force MAE {final['force_mae_mev_per_ang']:.1f} meV/Å"
        )
    output.say(f"written      {', '.join(str(out / name) for name in ('model.json', 'labels.extxyz', SUMMARY))}")
    output.say(f"for a page   qff report {out}")
    output.finish(result)


def _say_round(output: Output, records: "list[Record]") -> None:
    """Say the last round in one line."""
    record = records[-1]
    new, failed = record["new"], f" ({record['n_failed']} failed)" if record["n_failed"] else ""
    shown = "" if new is None else f" show a force error of {new['force_mae_mev_per_ang']:.0f} meV/Å"
    output.say(
        f"round {record['round']:3d}    {record['n_train']} frames; "
        f"shortest run {record['shortest_ps']:.3g} of {record['runs'][0]['asked_ps']:g} ps, "
        f"largest grade {record['largest_ratio']:.2f} of its limit; {record['n_chosen']} + {record['n_drawn']} labels"
        f"{shown}{failed}"
    )


def _as_yaml(config: "LearnConfig") -> str:
    """The configuration with all defaults spelt out, as ``qff learn`` reads it back."""
    import yaml

    content = config.model_dump(mode="json")
    content["train"] = {
        name: value for name, value in content["train"].items() if name not in {"data", "estimator", "seed"}
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
