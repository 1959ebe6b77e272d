"""The quantum part of benchmarks/RESULTS.md: circuits, depth, shots, devices; one section a record."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
DEPTH_ROWS = {
    "loader + tree rank one": "loader and tree",
    "worst pair state + tree rank one": "pair state and tree",
    "loader + brickwork cz, 4 layers": "loader and brickwork CZ, 4 layers",
    "worst pair state + brickwork cz, 4 layers": "pair state and brickwork CZ, 4 layers",
    "worst pair state + brickwork rzz, 4 layers": "pair state and brickwork RZZ, 4 layers",
}
DEVICES = {"heavy_hex": "heavy-hex", "square": "square lattice", "heavy_hex_fractional": "heavy-hex, fractional gates"}


def read(name):
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def big(number):
    """A count in digits up to a million, in powers of ten beyond."""
    return f"{number:,}" if number < 10_000_000 else f"{number:.1e}"


def depth_section():
    record = read("circuit_depth")
    if record is None:
        return []
    found = {(row["qubits"], row["circuit"]): row for row in record["rows"]}
    qubits = sorted({q for q, _ in found})
    lines = ["## Two-qubit depth after transpiling", ""]
    for device, words in DEVICES.items():
        lines += [f"| {words} | {' | '.join(f'n = {q}' for q in qubits)} |", "|---" * (len(qubits) + 1) + "|"]
        for circuit, name in DEPTH_ROWS.items():
            cells = [str(found[q, circuit][device]["depth"]) if (q, circuit) in found else "" for q in qubits]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    lines += [
        (
            "The brickwork is the shallowest from 4 qubits on, and with fractional gates its RZZ variant costs no"
            " more than CZ. The tree is the default all the same: one readout vector is measured in n + 1 "
            "settings, and a register of d features counts d parameters. "
            "`benchmarks/quantum/circuit_depth.py`"
        ),
        "",
    ]
    return lines


def shots_section():
    record = read("shots")
    if record is None:
        return []
    lines = ["## Shots for 1 meV/atom and for 50 meV/Å", ""]
    lines += ["| data, training | force MAE | energy MAE | circuits | shots each, energy | shots each, force |"]
    lines += ["|---|---|---|---|---|---|"]
    for row in record["rows"]:
        found = row["operator"]
        lines.append(
            f"| {row['set']}, {row['training']} | {row['force_mae_mev_per_ang']:.1f} | "
            f"{row['energy_mae_mev_per_atom']:.2f} | {found['circuits']} | "
            f"{big(found['energy']['shots'])} | {big(found['force']['shots'])} |"
        )
    sampled = [row["operator"]["force_error_of_samples_mev_per_ang"] for row in record["rows"]]
    lines += [
        "",
        (
            "`plain`: features of order one and comparable variance; `lambda`: the same, the noise of 4096 shots "
            "counted as loss; `basis`: features decorrelated and small; `frugal`: both. Circuits are those of a "
            f"calibration. From the closed form; predictions sampled with the shots for 50 meV/Å had errors of {min(sampled):.0f} to "
            f"{max(sampled):.0f} meV/Å (root mean square; few draws). `benchmarks/quantum/shots.py`"
        ),
        "",
    ]
    for found in record.get("standard_errors", {}).values():
        energy, force = found["energy"], found["force"]
        lines += [
            (
                f"Reported standard errors: over {found['repetitions']} calibrations of a model of "
                f"{found['n_registers']} registers on `{found['backend']}`, {found['shots']} shots a setting, energies "
                f"scatter by {energy['spread']:.2f} and forces by {force['spread']:.2f} of what is reported. The "
                f"mean, without mitigation, is off by {energy['bias']:.2f} and {force['bias']:.2f} of these errors."
                " `benchmarks/quantum/shots.py --backend "
                f"{found['backend']}`"
            ),
            "",
        ]
    return lines


def mean_and_spread(found, digits=1):
    return f"{found['mean']:.{digits}f} ± {found['std']:.{digits}f}"


def device_section():
    record = read("fake_device")
    if record is None:
        return []
    lines = ["## Forces on a fake device", ""]
    lines += [
        "| model | backend, mitigation | shots | executions | force MAE, exact | rise when measured, % | noise | z |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['set']} | `{row['backend']}`, {row['mitigation']} | {row['shots']:,} | {row['executions']:,} | "
        f"{row['force_mae_mev_per_ang']:.1f} | {mean_and_spread(row['rise_percent'])} | "
        f"{mean_and_spread(row['noise_mev_per_ang'])} | {row['z']:.2f} |"
        for row in record["rows"]
    ]
    lines += [
        "",
        (
            "The models of `qff train DATA` with nothing else said, judged on frames that the run held out. All "
            f"registers are measured side by side in {record['rows'][0]['circuits']} circuits; mean and standard "
            f"deviation over {record['seeds']} measurements, forces in meV/Å. Noise is the deviation from the exact "
            "model; z compares it with the standard errors reported, 1 if they are right. Backend `exact` has shot "
            "noise only. `benchmarks/quantum/fake_device.py`"
        ),
        "",
    ]
    return lines


def register_section():
    record = read("register_size")
    if record is None:
        return []
    lines = ["## Registers of 1 to 6 qubits", ""]
    lines += [
        "| qubits | registers | two-qubit gates | circuits | executions | force MAE | noise | force MAE, measured |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        noise, measured = (
            " / ".join(f"{value:.1f}" for value in row[key])
            for key in ("noise_mev_per_ang", "measured_force_mae_mev_per_ang")
        )
        lines.append(
            f"| {row['n_qubits']} | {row['n_registers']} | {row['two_qubit_gates']} | {row['circuits']} | "
            f"{row['executions']:,} | {row['force_mae_mev_per_ang']:.1f} | {noise} | {measured} |"
        )
    lines += [
        "",
        "![Force error, gates and executions by register size](results/register_size.png)",
        "",
        (
            f"{record['set']}, {record['rows'][0]['n_trainable']} parameters, `{record['backend']}`, {record['shots']} "
            "shots a setting, readout mitigation; forces in meV/Å, one number a seed. The error of the noiseless model "
            "is the same at every size, so entanglement brings no accuracy here; width instead of depth is what makes "
            "the model measurable. One qubit is a limiting case: a balanced register of one feature prepares an "
            "equal superposition, of which only the sign is trained and no shot is in doubt; its coefficient is the "
            "classical weight. From two qubits on (the default) the circuit holds the ratios of the coefficients. "
            "`benchmarks/quantum/register_size.py`"
        ),
        "",
    ]
    return lines


def summary_lines():
    """What the README says of it."""
    lines = []
    if record := read("shots"):
        trained = {r["training"]: r for r in record["rows"] if r["set"] == "lips83"}
        names = {
            "plain": "features of order one",
            "lambda": "the same with the noise counted in training",
            "basis": "the package's basis",
            "frugal": "both",
        }
        parts = [
            f"{big(trained[key]['operator']['force']['shots'])} with {words} "
            f"(model error {trained[key]['force_mae_mev_per_ang']:.1f} meV/Å)"
            for key, words in names.items()
            if key in trained
        ]
        lines.append(
            "- Shots a state for force errors of 50 meV/Å (lips83, 99 parameters): "
            f"{', '.join(parts)}. `benchmarks/quantum/shots.py`"
        )
    lines += readme_lines()
    if record := read("calibration_cost"):
        row = next(r for r in record["rows"] if r["mitigation"] == "readout")
        lines.append(
            f"- Calibrating the Li-MOF model of {row['model']}: {row['circuits']} circuits, {row['seconds']:.0f} s of "
            "processor time, estimated. `benchmarks/quantum/calibration_cost.py`"
        )
    return lines


def readme_lines():
    """Forces on a fake device, the one line of this page that the README has as well."""
    record = read("fake_device")
    if record is None:
        return []
    chosen = {row["set"]: row for row in record["rows"] if row["mitigation"] == "readout"}  # the most shots of each set
    parts = [
        f"{name} {row['force_mae_mev_per_ang']:.0f} meV/Å, {row['rise_percent']['mean']:+.1f} % ({row['shots']:,})"
        for name, row in chosen.items()
    ]
    row = next(iter(chosen.values()))
    where = f"`{row['backend']}` in {row['circuits']} circuits (of so many shots)"
    text = f"- Force MAE against DFT, and its change when the model is measured on {where}: {'; '.join(parts)}. "
    return [text + "`benchmarks/quantum/fake_device.py`"]


def sections():
    """All of it, for RESULTS.md."""
    return [
        *shots_section(),
        *device_section(),
        *register_section(),
        *depth_section(),
    ]
