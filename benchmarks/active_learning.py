"""Active learning of lithium in MOF-5 with GFN1-xTB, from ten rattled frames to a model that survives its dynamics.

    python benchmarks/active_learning.py [--work DIR] [--ps 10] [--rounds 15] [--labels 200] [--smoke]

110 atoms (Li4@MOF-5, the first shipped structure); labels: GFN1-xTB by tblite, electronic temperature 1000 K. Start: 10
copies rattled by 0.03 Å (normal, every coordinate). Each round runs molecular dynamics at 300 K three times (Bussi, 0.5
fs) from three rattled copies, labels the 12 most uncertain frames and 3 inside the training data (held out), and trains
again. Structures of the start are labelled afresh: DFT energies of the shipped set never meet those of GFN1-xTB.

GFN1-xTB binds lithium in MOF-5 wrongly (it leaves the rings for single oxygen atoms, and pairs up; DFT puts these
structures 3 to 4 eV up). So this shows the machinery on a hard case, not a model of the material. In the work
directory the run can be killed and started again; the results file is written after every round. `--smoke` does two
rounds of half a picosecond on eight atoms of Cu-Au with EMT.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import models
import numpy as np
from ase.build import bulk

from qiskit_qff import __version__
from qiskit_qff.learning.config import load_learn_config
from qiskit_qff.learning.run import learn, read_inputs, write_frames
from qiskit_qff.structures.dataset import read_shipped
from qiskit_qff.structures.frame import Frame

RATTLE = 0.03
"""Standard deviation of every coordinate in Å."""


def rattled(atoms, *, count, amplitude):
    """Copies with normally distributed displacements."""
    rng, copies = np.random.default_rng(1), [atoms.copy() for _ in range(count)]
    for copy in copies:
        copy.rattle(amplitude, rng=rng)
    return [Frame.from_atoms(copy) for copy in copies]


def limof5(arguments):
    """Structures to begin with and the configuration."""
    base = read_shipped()[0].to_atoms()
    base.info.clear()  # where its labels are from
    start = rattled(base, count=10, amplitude=RATTLE)
    config = {
        "start": "start.extxyz",
        "label": {"calculator": "tblite", "options": {"electronic_temperature": 1000.0}},
        "md": {"structures": "md.extxyz", "temperatures_k": [300.0], "repeats": 3, "time_ps": arguments.ps},
        "select": {"per_round": 12, "held_out": 3},
        "stop": {"rounds": arguments.rounds, "labels": arguments.labels},
    }
    return start, start[:3], config


def copper_gold():
    """The same in small."""
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.symbols[[1, 4, 6]] = "Au"
    atoms.set_cell(atoms.cell * 1.05, scale_atoms=True)
    start = rattled(atoms, count=4, amplitude=0.05)
    config = {
        "start": "start.extxyz",
        "label": {"calculator": "emt"},
        "md": {"structures": "md.extxyz", "time_ps": 0.5},
        "stop": {"rounds": 2},
        "train": {
            "descriptor": {"r_cut": 4.0, "n_radial": 2, "l_max": 1},
            "max_parameters": 20,
        },
    }
    return start, start[:1], config


def run(folder, start, md, config, keep):
    folder.mkdir(parents=True, exist_ok=True)
    write_frames(folder / "start.extxyz", start)
    write_frames(folder / "md.extxyz", md)
    (folder / "learn.yaml").write_text(json.dumps(config))  # JSON is YAML
    settings = load_learn_config(folder / "learn.yaml")
    reference = settings.label.reference()
    begin = time.perf_counter()

    def after_round(records):
        print(json.dumps(records[-1]), flush=True)
        keep({"finished": False, "rounds": records})

    learnt = learn(
        settings,
        read_inputs(settings),
        reference,
        folder / "run",
        progress=lambda *_, **__: None,
        after_round=after_round,
    )
    return {
        "finished": True,
        "reason": learnt["reason"],
        "rounds": learnt["rounds"],
        "held_out_by_model": learnt["held_out"],
        "n_labels": learnt["n_labels"],
        "n_train": learnt["n_train"],
        "n_failed": learnt["n_failed"],
        "seconds_last_process": round(time.perf_counter() - begin, 1),
        "level": reference.level,
        "label_settings": reference.settings_hash,
        "version": __version__,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="directory to keep and go on in; default: a temporary one")
    parser.add_argument("--ps", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--smoke", action="store_true", help="two short rounds on Cu-Au with EMT, nothing written")
    arguments = parser.parse_args()
    start, md, config = copper_gold() if arguments.smoke else limof5(arguments)

    def keep(found):
        if not arguments.smoke:
            found = {"config": config, "n_atoms": start[0].n_atoms, "load_average": os.getloadavg()[0], **found}
            models.record("active_learning", found)

    with tempfile.TemporaryDirectory() as temporary:
        keep(run(arguments.work or Path(temporary), start, md, config, keep))


if __name__ == "__main__":
    main()
