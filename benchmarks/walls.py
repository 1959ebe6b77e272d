"""Whether walls around the training domain hold dynamics of models of few frames together.

    python benchmarks/walls.py [--frames 4 8 12] [--seeds 4] [--ps 2] [--temperature 300] [--smoke]

Default models of the first frames of the shipped Li-MOF-5 set that were sampled at 300 K; NVT (Bussi, 0.5 fs) from
those frames, with and without walls, the same velocities for both. A run has failed when the temperature is beyond
twice the thermostat's plus 300 K, or two atoms meet.
"""

import argparse

import models
import numpy as np
from ase import units
from ase.md.bussi import Bussi
from ase.md.velocitydistribution import thermalize_momenta

from qiskit_qff import QFFCalculator, read_shipped, train
from qiskit_qff.errors import QFFError
from qiskit_qff.model.config import parse_config

SMALL = {"max_parameters": 40, "descriptor": {"r_cut": 4.5, "l_max": 1}}
BLOCK_FS = 50.0


def lasted(potential, frame, *, temperature, seed, picoseconds):
    """How long a run went well, in ps."""
    rng = np.random.default_rng(seed)
    atoms = frame.to_atoms()
    atoms.calc = QFFCalculator(potential)
    thermalize_momenta(atoms, temperature_K=temperature, rng=rng)
    dynamics = Bussi(atoms, 0.5 * units.fs, temperature_K=temperature, taut=100 * units.fs, rng=rng)
    for block in range(round(1e3 * picoseconds / BLOCK_FS)):
        try:
            dynamics.run(round(BLOCK_FS / 0.5))
        except QFFError:
            return block * BLOCK_FS / 1e3
        if atoms.get_temperature() > 2.0 * temperature + 300.0:
            return block * BLOCK_FS / 1e3
    return picoseconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[4, 8, 12])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--ps", type=float, default=2.0)
    parser.add_argument("--temperature", type=float, default=300.0)
    parser.add_argument("--smoke", action="store_true", help="a few steps of a small model, nothing written")
    given = parser.parse_args()
    if given.smoke:
        given.frames, given.seeds, given.ps = [3], 1, BLOCK_FS / 1e3
    calm = [f for f in read_shipped() if f.tags["temperature_K"] == given.temperature and not f.tags["rattle"]]
    rows = []
    for count in given.frames:
        settings = {"data": {"split": "none"}} | (SMALL if given.smoke else {})
        field = train(calm[:count], parse_config(settings, where="benchmark")).force_field
        row = {"n_frames": count}
        for name, potential in (("bare", field), ("walls", field.within_walls())):
            row[name] = [
                lasted(
                    potential, calm[seed % count], temperature=given.temperature, seed=seed, picoseconds=given.ps
                ) for seed in range(given.seeds)
            ]  # fmt: skip
        print(row, flush=True)
        rows.append(row)
    if not given.smoke:
        content = {"temperature_k": given.temperature, "asked_ps": given.ps, "models": rows}
        models.record("walls", content)


if __name__ == "__main__":
    main()
