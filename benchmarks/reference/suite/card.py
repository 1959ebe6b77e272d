"""The tables of the shipped sets' data card, from the files as they are; `collect.py` writes them into it."""

import numpy as np
from ase.io import read
from ase.units import GPa

from qiskit_qff.structures.shipped import shipped_path


def table(head, rows):
    return "\n".join([head, "|" + "---|" * (head.count("|") - 1), *rows])


def sizes(forces):
    """Root mean square of the components and the longest vector, as cells."""
    return f"{np.sqrt((forces**2).mean()):.2f} | {np.linalg.norm(forces, axis=1).max():.1f}"


def volumes_card():
    frames = read(shipped_path("li6ps5cl_volumes"), ":")
    lowest, rows = min(a.get_potential_energy() for a in frames), []
    for k, a in enumerate(frames):
        above, pull = a.get_potential_energy() - lowest, a.get_stress()[:3].mean() / GPa
        rows.append(
            f"| V{k} | {a.info['row']} | {a.info['linear_scale']:g} | {a.get_volume():.1f} | {above:.3f} | "
            f"{pull:+.2f} | {sizes(a.get_forces())} |"
        )
    return table("| frame | of li6ps5cl | lengths | volume / Å³ | ΔE / eV | trace / 3, GPa | rms F | max F |", rows)


def nodes_card():
    lowest = {}
    for a in read(shipped_path("limof5"), ":"):
        lowest[len(a)] = min(lowest.get(len(a), np.inf), a.get_potential_energy())
    rows = []
    for k, a in enumerate(read(shipped_path("limof5_nodes"), ":")):
        forces, info, charges = a.get_forces(), a.info, a.arrays["mulliken_charges"]
        above = a.get_potential_energy() - lowest[len(a)]
        rows.append(
            f"| N{k} | {info['round']} | {info['seed']} | {info.get('origin', '')} | {(a.numbers == 3).sum()} | "
            f"{info['temperature_K']:.0f} | {info['time_ps']:.1f} | {info['broken_bonds']} | "
            f"{above:.1f} | {sizes(forces)} | {charges[a.numbers == 3].min():.2f} | "
            f"{charges[a.numbers == 30].min():.2f} |"
        )
    head = "| frame | round | seed | from | Li | T / K | ps | bonds broken | ΔE / eV | rms F | max F "
    head += "| least q of Li | of Zn |"
    return table(head, rows)


def framework_card():
    frames = read(shipped_path("limof5"), ":")
    lowest = {}
    for a in frames:
        n = len(a)
        lowest[n] = min(lowest.get(n, np.inf), a.get_potential_energy() / n)
    rows = []
    for k, a in enumerate(frames):
        forces, info = a.get_forces(), a.info
        charges = a.arrays["mulliken_charges"][a.numbers == 3]
        rows.append(
            f"| {k} | {info['replica']} | {info['chunk']} | {info['snapshot']} | {info['temperature_K']:.0f} | "
            f"{'yes' if info['rattle'] else ''} | {len(charges)} | "
            f"{(a.get_potential_energy() / len(a) - lowest[len(a)]) * 1e3:.1f} | {sizes(forces)} | "
            f"{np.abs(forces.sum(axis=0)).max():.2f} | "
            f"{f'{charges.min():.2f}' if len(charges) else '-'} | "
            f"{a.arrays['mulliken_charges'][a.numbers == 30].min():.2f} |"
        )
    head = "| frame | replica | chunk | snapshot | T / K | rattled | Li | ΔE | rms F | max F | net F | least q of Li "
    head += "| of Zn |"
    return table(head, rows)


def framework_summary():
    frames = read(shipped_path("limof5"), ":")
    plain = [a for a in frames if not a.info["rattle"]]
    loads = [int((a.numbers == 3).sum()) for a in frames]
    four = [a for a, n in zip(frames, loads, strict=True) if n == 4]
    energies = np.array([a.get_potential_energy() / len(a) for a in four])
    smooth = np.array([a.get_potential_energy() / len(a) for a in four if not a.info["rattle"]])
    forces = np.concatenate([a.get_forces().ravel() for a in frames])
    calm = np.concatenate([a.get_forces().ravel() for a in plain])
    charges = np.concatenate([a.arrays["mulliken_charges"][a.numbers == 3] for a in frames])
    net = max(np.abs(a.get_forces().sum(axis=0)).max() for a in frames)
    shares = ", ".join(f"{loads.count(n)} with {n} Li" for n in sorted(set(loads)))
    heat = sorted({a.info["temperature_K"] for a in frames})
    hot = ", ".join(f"{sum(a.info['temperature_K'] == t for a in frames)} at {t:.0f} K" for t in heat)
    count = f"{len(frames)}: {len(plain)} snapshots and {len(frames) - len(plain)} rattled copies; {shares}"
    energy = (
        f"{energies.min():.3f} to {energies.max():.3f} eV/atom (spread {energies.std() * 1e3:.1f} meV/atom, "
        f"without the rattled copies {smooth.std() * 1e3:.1f}); pseudopotential reference"
    )
    force = (
        f"standard deviation {forces.std():.2f} eV/Å (snapshots alone {calm.std():.2f}), largest component "
        f"{np.abs(forces).max():.1f} eV/Å; the net force reaches {net:.2f} eV/Å"
    )
    charge = f"{charges.mean():+.2f} e on average (Mulliken; {charges.min():.2f} to {charges.max():.2f})"
    rows = {"frames": count, "sampled": hot, "energies of Li4": energy, "forces": force, "charge of Li": charge}
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {words} |" for name, words in rows.items())])


def stress_words(frames):
    """How many frames have a stress, and a third of its trace: mean and standard deviation, as two cells."""
    found = [a.get_stress()[:3].mean() / GPa for a in frames if "stress" in a.calc.results]
    return f"{len(found)} | {np.mean(found):+.2f} ± {np.std(found):.2f}" if found else "0 | -"


def electrolyte_card():
    frames = read(shipped_path("li6ps5cl"), ":")
    rows = []
    for name in ("equilibration", "trajectory"):
        part = [a for a in frames if a.info["part"] == name]
        if not part:
            continue
        energies = np.array([a.get_potential_energy() / len(a) for a in part])
        forces = np.array([a.get_forces() for a in part])
        heat = np.array([a.info["kinetic_temperature_K"] for a in part])
        net = np.abs(forces.sum(axis=1)).max()
        rows.append(
            f"| {name} | {len(part)} | {part[0].info['time_fs']:.0f} to {part[-1].info['time_fs']:.0f} fs | "
            f"{heat.mean():.0f} ({heat.min():.0f} to {heat.max():.0f}) | "
            f"{energies.min():.4f} to {energies.max():.4f} | {forces.std():.2f} | "
            f"{np.abs(forces).max():.1f} | {net:.3f} | {stress_words(part)} |"
        )
    head = "| part | frames | time | kinetic T / K | eV/atom | std F | largest component | net F | stresses "
    head += "| trace / 3, GPa |"
    return table(head, rows)


def card(text):
    """The data card with its figures as the files have them."""
    parts = {"limof5": framework_summary(), "limof5 frames": framework_card(), "li6ps5cl": electrolyte_card()}
    parts |= {"limof5 nodes": nodes_card(), "li6ps5cl volumes": volumes_card()}
    for name, content in parts.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{content}\n{end}{rest.split(end, 1)[1]}"
    return text
