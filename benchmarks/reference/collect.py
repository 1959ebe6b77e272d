"""Put finished reference calculations into the shipped sets, and their figures into the data card.

    python benchmarks/reference/collect.py electrolyte RUN    # a run of li6ps5cl_cp2k.inp: ar.out, ar-pos-1.xyz, ...
    python benchmarks/reference/collect.py framework FILE...  # frames labelled by `qff label --calculator cp2k`
    python benchmarks/reference/collect.py nodes FILE...      # the same, structures that a model's dynamics broke
    python benchmarks/reference/collect.py linker FILE...     # frames of dilithium terephthalate, labelled likewise
    python benchmarks/reference/collect.py stresses FILE FINE # the same, frames of the electrolyte with `stress: true`
    python benchmarks/reference/collect.py scaled OUT         # writes structures of the electrolyte at other volumes
    python benchmarks/reference/collect.py volumes FILE...    # these labelled on the fine grid
    python benchmarks/reference/collect.py card               # the card's figures from the files as they are

`electrolyte` takes every step whose SCF converged. A run that begins at rest makes the set anew; one that begins
where the set has a frame replaces what came after it. `framework` adds what the set does not hold yet, in the order
given; frames whose lithium has a Mulliken charge near zero are in a wrong electronic state, told and left out.
`nodes` adds to a set of its own; its frames come with tags `round`, `seed`, `time_ps` and `broken_bonds`, and
`origin`, the frame of `limof5` that the run began with, where that is broken itself. `linker` adds to `li2tp`.
`stresses` gives frames of `li6ps5cl` the stress that FILE has for the same positions. On the recipe's grid the
pressure is off by nearly the same in every frame; FINE holds some of the frames from a fine grid without smoothing,
and the mean difference of their pressure is taken off all. `scaled` writes the first frame and the last, and the
latter with cell, ions and centres of PS4 scaled, the bonds of each PS4 kept; `volumes` makes a set of them, to judge
models by. All can be run while calculations go on. `--smoke` writes nothing: it fails where the card is not what the
files say.
"""

import argparse
import io
import lzma
import re
import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import iread, read, write
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import Bohr, GPa, Hartree

from qiskit_qff.structures.dataset import shipped_path

LEVEL = "PBE-D3BJ/DZVP-MOLOPT-SR-GTH cp2k2023.1"
EQUILIBRATION_FS = 100.0
"""Until then the electrolyte cools down from 1300 K, two relaxation times of its thermostat."""
WHAT = ("electrolyte", "framework", "nodes", "linker", "stresses", "scaled", "volumes", "card")
SCALES = (0.98, 1.02)
"""Of the last frame's cell and of the places of its ions and phosphorus."""
MOST_SPREAD = 0.05
"""By how much the grid's share of the pressure may differ between frames and axes, in GPa, to be called constant."""
LONGEST_PS = 2.6
"""Å; what is nearer to phosphorus belongs to its PS4."""
MOST_GAP = 0.01
"""By how much a frame's energy may differ when it is calculated again, in meV/atom."""
LEAST_CHARGE = 0.1
"""Lithium below this Mulliken charge, in e, is not the ion."""

KEPT_TAGS = ("time_ps", "choice", "label_level", "label_settings", "label_version", "label_finished")
"""Of frames of the linker."""


def save(frames, path):
    text = io.StringIO()
    write(text, frames, format="extxyz")
    path.write_bytes(lzma.compress(text.getvalue().encode(), preset=9))


def blocks(path, n_atoms):
    """Step and numbers of every complete frame of an XYZ file that CP2K writes."""
    lines = path.read_text().splitlines()
    size = n_atoms + 2
    for begin in range(0, len(lines) - size + 1, size):
        rows = [line.split()[1:4] for line in lines[begin + 2 : begin + size]]
        yield int(re.search(r"i =\s*(\d+)", lines[begin + 1])[1]), np.array(rows, dtype=float)


def converged_steps(output):
    """Steps of the run whose SCF ended below its threshold, in order of their energies in the output."""
    ended = re.findall(r"outer SCF loop (converged|FAILED)|(ENERGY\| Total FORCE_EVAL)", output)
    steps, last = [], False
    for scf, energy in ended:
        last = scf == "converged" if scf else last
        if energy:
            steps.append(last)
    return steps


def steps_of(run):
    """Frames of a run, in order."""
    text = (run / "ar.inp").read_text()
    cell = [[float(x) for x in re.search(rf"^ *{axis} +(.*)$", text, re.MULTILINE)[1].split()] for axis in "ABC"]
    symbols = [
        line.split()[0]
        for line in re.search(r"&COORD\n(.*?)&END COORD", text, re.DOTALL)[1].splitlines()
        if line.split()
    ]
    table = {int(row[0]): row for row in np.loadtxt(run / "ar-1.ener", ndmin=2)}
    forces = dict(blocks(run / "ar-frc-1.xyz", len(symbols)))
    good = converged_steps((run / "ar.out").read_text())
    frames = []
    for step, positions in blocks(run / "ar-pos-1.xyz", len(symbols)):
        if step not in forces or step not in table or step >= len(good) or not good[step]:
            print(f"step {step}: left out")
            continue
        _, time, _, kinetic, potential, *_ = table[step]
        atoms = Atoms(symbols, positions=positions, cell=cell, pbc=True)
        atoms.calc = SinglePointCalculator(
            atoms, energy=potential * Hartree, forces=np.round(forces[step] * Hartree / Bohr, 8)
        )
        atoms.info.update(
            step=step, time_fs=time, temperature_K=600.0, kinetic_temperature_K=round(kinetic, 1),
            part=part(time), config_type="li6ps5cl", level=LEVEL,
        )  # fmt: skip
        frames.append(atoms)
    return frames


def electrolyte(run):
    frames, kept = steps_of(run), read(shipped_path("li6ps5cl"), ":")
    same = [k for k, a in enumerate(kept) if np.allclose(a.positions, frames[0].positions, atol=1e-7)]
    if same and same[0]:
        joint = kept[same[0]]
        gap = frames[0].get_potential_energy() - joint.get_potential_energy()
        print(f"goes on from frame {same[0]}: energy there differs by {1e3 * gap / len(joint):.4f} meV/atom")
        for atoms in frames[1:]:
            atoms.info["step"] += joint.info["step"]
            atoms.info["time_fs"] += joint.info["time_fs"]
            atoms.info["part"] = part(atoms.info["time_fs"])
        frames = kept[: same[0] + 1] + frames[1:]
    save(frames, shipped_path("li6ps5cl"))
    return len(frames)


def part(time_fs):
    return "equilibration" if time_fs < EQUILIBRATION_FS else "trajectory"


def unknown(files, frames):
    """Labelled frames that a set does not hold yet, those in a wrong electronic state left out."""
    kept = {place(a) for a in frames}
    for file in files:
        for atoms in iread(file):
            if "charges" in atoms.calc.results:  # as `qff label` writes them
                atoms.arrays["mulliken_charges"] = atoms.calc.results.pop("charges")
            charges = atoms.arrays["mulliken_charges"][atoms.numbers == 3]
            if place(atoms) in kept:
                continue
            if len(charges) and charges.min() < LEAST_CHARGE:
                print(f"{file}: lithium of charge {charges.min():.2f}: left out")
                continue
            yield atoms


def framework(files):
    path = shipped_path("limof5")
    frames = read(path, ":")
    count = max((a.info["snapshot"] for a in frames if a.info["replica"] == "M"), default=0)
    for atoms in list(unknown(files, frames)):
        lithium = int((atoms.numbers == 3).sum())
        if "replica" not in atoms.info:
            count += 1
            atoms.info = {
                "replica": "M", "chunk": atoms.info["round"], "snapshot": count, "rattle": 0.0, "level": LEVEL,
                "config_type": f"li{lithium}mof5" if lithium else "mof5", **atoms.info,
            }  # fmt: skip
        frames.append(atoms)
    save(frames, path)
    return len(frames)


def nodes(files):
    path = shipped_path("limof5_nodes")
    frames = read(path, ":") if path.exists() else []
    for atoms in list(unknown(files, frames)):
        atoms.info = {"replica": "N", "snapshot": len(frames), "rattle": 0.0, "level": LEVEL} | atoms.info
        frames.append(atoms)
    save(frames, path)
    return len(frames)


def linker(files):
    """Frames of dilithium terephthalate; labels of other settings would not go with them and are refused."""
    path = shipped_path("li2tp")
    frames = read(path, ":") if path.exists() else []
    for atoms in list(unknown(files, frames)):
        info = atoms.info
        kept = {key: info[key] for key in KEPT_TAGS if key in info}
        heat = info.get("temperature_k", info.get("temperature"))
        if info["replica"] == "rattle":
            heat = 0.0
        elif heat is None:
            heat = float(re.match(r"(\d+)K", info["replica"])[1])
        atoms.info = {"config_type": "li2tp", "replica": info["replica"], "temperature_K": float(heat)} | kept
        frames.append(atoms)
    if len({(a.info["label_level"], a.info["label_settings"]) for a in frames}) > 1:
        sys.exit("frames were labelled with different settings")
    save(frames, path)
    return len(frames)


def stresses(coarse, fine):
    """Put corrected stresses into the electrolyte's frames; says what was taken off."""
    path = shipped_path("li6ps5cl")
    frames, found = read(path, ":"), {place(a): a for a in iread(coarse)}
    pairs = [(found.get(place(a)), a) for a in iread(fine)]
    if any(a is None for a, _ in pairs):
        sys.exit(f"{fine}: holds a frame that {coarse} does not")
    shifts = [a.get_stress(voigt=False) - b.get_stress(voigt=False) for a, b in pairs]
    mean = float(np.mean([np.trace(shift) / 3.0 for shift in shifts]))
    spread = max(float(np.abs(shift - mean * np.eye(3)).max()) for shift in shifts) / GPa
    if spread > MOST_SPREAD:
        sys.exit(f"the grid's share of the stress differs by {spread:.3f} GPa between frames or axes: no constant")
    count = 0
    for atoms in frames:
        other = found.get(place(atoms))
        if other is None:
            continue
        gap = 1e3 * abs(other.get_potential_energy() - atoms.get_potential_energy()) / len(atoms)
        if gap > MOST_GAP:
            sys.exit(f"step {atoms.info['step']}: energies differ by {gap:.3f} meV/atom: another recipe?")
        tensor = other.get_stress(voigt=False) - mean * np.eye(3)
        atoms.calc.results["stress"] = np.round(full_3x3_to_voigt_6_stress(tensor), 8)
        atoms.info["stress_shift_gpa"] = round(-mean / GPa, 4)
        atoms.info |= {f"stress_{name}": other.info[f"label_{name}"] for name in ("version", "settings", "finished")}
        count += 1
    if count < len(found):
        sys.exit(f"{coarse}: {len(found) - count} of {len(found)} frames are none of the set")
    save(frames, path)
    return f"{count} stresses, {mean / GPa:.3f} GPa taken off; over {len(shifts)} frames and all axes ± {spread:.3f}"


def scaled(out):
    """Structures at the electrolyte's own volume and others."""
    frames, found = read(shipped_path("li6ps5cl"), ":"), []
    for row, scale in ((0, 1.0), (len(frames) - 1, 1.0), *((len(frames) - 1, s) for s in SCALES)):
        atoms = Atoms(frames[row].symbols, positions=frames[row].positions, cell=frames[row].cell, pbc=True)
        sulfur, bonds = np.flatnonzero(atoms.numbers == 16), []
        for center in np.flatnonzero(atoms.numbers == 15):
            vectors = atoms.get_distances(center, sulfur, mic=True, vector=True)
            bonded = np.linalg.norm(vectors, axis=1) < LONGEST_PS
            bonds.append((center, sulfur[bonded], vectors[bonded]))
        if scale != 1.0:
            atoms.set_cell(scale * atoms.cell, scale_atoms=True)
            for center, own, vectors in bonds:
                atoms.positions[own] = atoms.positions[center] + vectors
        atoms.info["row"] = row
        found.append(atoms)
    write(out, found, format="extxyz")


def volumes(files):
    """The set of frames at several volumes; `row` is the frame of the electrolyte that they were made from."""
    first, frames = read(shipped_path("li6ps5cl"), 0).get_volume(), [a for file in files for a in iread(file)]
    for atoms in frames:
        atoms.info.pop("scale", None)
        atoms.info["linear_scale"] = round((atoms.get_volume() / first) ** (1 / 3), 4)
    frames.sort(key=lambda a: (a.info["linear_scale"], a.info["row"]))
    save(frames, shipped_path("li6ps5cl_volumes"))
    return len(frames)


def place(atoms):
    """Where the atoms are, as a key."""
    return atoms.positions.round(6).tobytes()


# --- the tables of the data card -------------------------------------------------------------------------------------


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


def linker_card():
    frames, rows = read(shipped_path("li2tp"), ":"), []
    for heat in sorted({a.info["temperature_K"] for a in frames}):
        part = [a for a in frames if a.info["temperature_K"] == heat]
        energies = np.array([1e3 * a.get_potential_energy() / len(a) for a in part])
        forces = np.concatenate([a.get_forces() for a in part])
        volumes, runs = [a.get_volume() for a in part], {a.info["replica"] for a in part}
        rows.append(
            f"| {f'{heat:.0f} K' if heat else 'rattled, strained'} | {len(part)} | {len(runs)} | "
            f"{min(volumes):.0f} to {max(volumes):.0f} | {energies.std():.1f} | {sizes(forces)} |"
        )
    head = "| | frames | runs | volume / Å³ | spread of energies, meV/atom | rms F | max F |"
    return table(head, rows)


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
    parts = {"limof5": framework_summary(), "li6ps5cl": electrolyte_card()}
    parts |= {"limof5 nodes": nodes_card(), "li6ps5cl volumes": volumes_card(), "li2tp": linker_card()}
    for name, content in parts.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{content}\n{end}{rest.split(end, 1)[1]}"
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=WHAT, default="card")
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--smoke", action="store_true", help="check the card, nothing written")
    given = parser.parse_args()
    page = shipped_path("limof5").parent / "README.md"
    if given.smoke:
        if card(page.read_text()) != page.read_text():
            sys.exit("the data card does not show what the files hold; run collect.py card")
        return
    if given.what == "stresses" and len(given.paths) != 2:
        parser.error("stresses: give FILE and FINE")
    actions = {
        "electrolyte": lambda: print(electrolyte(given.paths[0]), "frames"),
        "framework": lambda: print(framework(given.paths), "frames"),
        "nodes": lambda: print(nodes(given.paths), "frames"),
        "linker": lambda: print(linker(given.paths), "frames"),
        "stresses": lambda: print(stresses(*given.paths)),
        "scaled": lambda: scaled(given.paths[0]),
        "volumes": lambda: print(volumes(given.paths), "frames"),
        "card": lambda: None,
    }
    actions[given.what]()
    page.write_text(card(page.read_text()))


if __name__ == "__main__":
    main()
