"""Write the shipped frames as VASP would: one vasprun.xml for each of the three replicas, below runs/.

The labels are CP2K's, not VASP's; the files are for practice with everything that reads VASP's output.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qiskit_qff import Frame, read_shipped

KBAR = 1602.176634
"""kbar per eV/Å³."""


def rows(name: str, values: np.ndarray) -> str:
    """An array of vectors in VASP's XML."""
    lines = "".join(f"<v> {' '.join(f'{x:.10f}' for x in row)} </v>\n" for row in values)
    return f'<varray name="{name}">\n{lines}</varray>\n'


def structure(frame: Frame, name: str = "") -> str:
    """Cell and positions."""
    scaled = frame.positions @ np.linalg.inv(frame.cell)
    crystal = rows("basis", frame.cell) + rows("rec_basis", np.linalg.inv(frame.cell).T)
    volume = f'<i name="volume"> {frame.volume} </i>'
    return f"<structure{name}><crystal>{crystal}{volume}</crystal>{rows('positions', scaled)}</structure>\n"


def vasprun_text(frames: Sequence[Frame]) -> str:
    """What VASP 6 would write in vasprun.xml for these steps, as far as readers look at it."""
    atoms = "".join(f"<rc><c>{symbol:2s}</c><c>1</c></rc>" for symbol in frames[0].symbols)
    steps = []
    for frame in frames:
        entries = (("e_fr_energy", -0.1), ("e_wo_entrp", 0.1), ("e_0_energy", 0.0))
        values = "".join(f'<i name="{name}"> {frame.energy + shift:.10f} </i>' for name, shift in entries)
        energy = f"<energy>{values}</energy>\n"
        stress = "" if frame.stress is None else rows("stress", -KBAR * frame.stress)
        labels = rows("forces", frame.forces) + stress
        steps.append(f"<calculation><scstep>{energy}</scstep>{structure(frame)}{labels}{energy}</calculation>\n")
    initial, final = structure(frames[0], ' name="initialpos"'), structure(frames[-1], ' name="finalpos"')
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n'
        '<generator><i name="version" type="string">6.3.0</i></generator>'
        '<incar><i type="int" name="NSW">9</i></incar>\n'
        f"<kpoints>{rows('kpointlist', np.zeros((1, 3)))}{rows('weights', np.ones((1, 1)))}</kpoints>\n"
        '<parameters><separator name="electronic"><i name="ENMAX">400.0</i>'
        '<i type="int" name="NELM">60</i><i type="int" name="IBRION">0</i></separator></parameters>\n'
        f'<atominfo><array name="atoms"><set>{atoms}</set></array></atominfo>\n'
        f"{initial}{''.join(steps)}{final}</modeling>\n"
    )


def main() -> None:
    """Write the files."""
    frames = read_shipped()
    for replica, name in zip("ABC", ("run1", "run2", "run3"), strict=True):
        members = [frame for frame in frames if frame.tags["replica"] == replica]
        path = Path("runs") / name / "vasprun.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(vasprun_text(members), encoding="iso-8859-1")
        print(f"{path}: {len(members)} frames")


if __name__ == "__main__":
    main()
