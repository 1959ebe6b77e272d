"""Draw the pictures of the concept pages: `python docs/figures/concepts.py` writes each for light and for dark pages.

Numbers and places are those of the shipped model, `notebooks/data/shipped_model.json`, so that no picture tells a story
of its own.
"""

from html import escape
from math import cos, hypot, radians, sin
from pathlib import Path

import numpy as np
from architecture import DARK, FONT, LIGHT, Colours
from qiskit_ibm_runtime.fake_provider import FakeKingston

from qiskit_qff import ForceField
from qiskit_qff.evaluators.tiling import place

HERE = Path(__file__).parent
MODEL = HERE.parents[1] / "notebooks" / "data" / "shipped_model.json"
SYMBOLS = {1: "H", 3: "Li", 6: "C", 8: "O", 30: "Zn"}
HUES = {"H": "#8c6bb1", "Li": "#009e73", "C": "#1c83c6", "O": "#d55e00", "Zn": "#e69f00"}
STRINGS = ("00", "01", "10", "11")


class Canvas:
    """SVG in the making, in the colours of one kind of page."""

    def __init__(self, width: float, height: float, words: str, colours: Colours) -> None:
        self.colours = colours
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="{FONT}" role="img">',
            f"<title>{escape(words)}</title>",
        ]

    def text(self, x, y, words, *, size=16, anchor="middle", colour=None, bold=False):
        """Words at a place."""
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{weight} '
            f'fill="{colour or self.colours.ink}">{escape(words)}</text>'
        )

    def box(self, x, y, width, height, fill, *, opacity=1.0, radius=4):
        """A filled rectangle."""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius}" fill="{fill}" '
            f'fill-opacity="{opacity:.2f}" stroke="{self.colours.faint}" stroke-opacity="0.45"/>'
        )

    def circle(self, x, y, radius, fill, *, stroke=None, dash=""):
        """A disc, or a ring where fill is none."""
        self.parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}" stroke="{stroke or self.colours.faint}" '
            f'stroke-width="1.5" stroke-dasharray="{dash}"/>'
        )

    def line(self, *points, width=1.6, colour=None, tip=False):
        """A line through points, perhaps with an arrow's tip at a horizontal end."""
        colour = colour or self.colours.faint
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>')
        if tip:
            x, y = points[-1]
            self.parts.append(f'<path d="M{x - 9} {y - 5} L{x} {y} L{x - 9} {y + 5} z" fill="{colour}"/>')

    def done(self):
        """The whole file."""
        return "\n".join([*self.parts, "</svg>", ""])


def bars(canvas, x, y, values, labels, hue):
    """Four bars that grow up and down from a line at y."""
    for k, (value, label) in enumerate(zip(values, labels, strict=True)):
        left, height = x + 38 * k, 90 * abs(value)
        canvas.box(left, y - height if value > 0 else y, 28, height, hue, radius=2)
        canvas.text(left + 14, y + 20 if value > 0 else y - 8, label, size=15)
    canvas.line((x - 8, y), (x + 150, y))


def register_of_an_atom(canvas, _field):
    """qubits.md: amplitudes, circuit, shots, mean."""
    colours, y = canvas.colours, 150
    canvas.text(82, 36, "1. amplitudes", size=16, bold=True)
    bars(canvas, 16, y, (0.87, 0.3, -0.28, 0.26), ("1", "y₁", "y₂", "y₃"), HUES["Li"])
    canvas.line((176, 118), (216, 118), tip=True)
    canvas.text(390, 36, "2. circuit of one register", size=16, bold=True)
    for wire, row in enumerate((88, 152)):
        canvas.text(226, row + 5, f"q{'₀₁'[wire]}", size=15, anchor="start")
        canvas.line((254, row), (556, row))
    for left, row, words in ((270, 88, "RY(θ₁)"), (270, 152, "RY(θ₂)"), (420, 88, "RY(θ₃)")):
        canvas.box(left, row - 20, 84, 40, colours.quantum)
        canvas.text(left + 42, row + 6, words, size=15)
    canvas.line((387, 88), (387, 152))
    for row in (88, 152):
        canvas.circle(387, row, 5, colours.ink)
        canvas.box(520, row - 17, 36, 34, colours.use)
        canvas.parts.append(
            f'<path d="M527 {row + 8} A 11 11 0 0 1 549 {row + 8} M538 {row + 8} L546 {row - 8}" fill="none" '
            f'stroke="{colours.ink}" stroke-width="1.5"/>'
        )
    canvas.text(387, 186, "CZ", size=15, colour=colours.faint)
    canvas.line((566, 118), (606, 118), tip=True)
    canvas.text(704, 36, "3. shots: bit strings", size=16, bold=True)
    bars(canvas, 632, y, (0.85, 0.3, 0.16, 0.2), STRINGS, HUES["C"])
    canvas.line((792, 118), (832, 118), tip=True)
    canvas.text(914, 36, "4. a mean", size=16, bold=True)
    canvas.box(842, 80, 146, 76, colours.model, radius=9)
    canvas.text(915, 112, "w |x|² share(00)", size=16)
    canvas.text(915, 138, "is an energy", size=16)


def environment(canvas, _field):
    """force_fields.md: neighbours within a cutoff, channels, a sum over atoms."""
    colours = canvas.colours
    centre, cutoff = (170, 160), 130
    canvas.circle(*centre, cutoff, "none", dash="6 5")
    around = [(62, 15, "O"), (95, 130, "Zn"), (58, 205, "O"), (102, 292, "C"), (178, 335, "C"), (166, 26, "H")]
    places = [(centre[0] + r * cos(radians(a)), centre[1] + r * sin(radians(a)), s) for r, a, s in around]
    for x, y, _ in places[:2]:
        canvas.line(centre, (x, y), colour=colours.ink)
    canvas.parts.append(
        f'<path d="M{170 + 36 * cos(radians(15)):.1f} {160 + 36 * sin(radians(15)):.1f} A 36 36 0 0 1 '
        f'{170 + 36 * cos(radians(130)):.1f} {160 + 36 * sin(radians(130)):.1f}" fill="none" stroke="{colours.ink}"/>'
    )
    canvas.text(183, 214, "angle", size=15)
    canvas.text(203, 158, "r", size=16)
    for x, y, symbol in [*places, (*centre, "Li")]:
        canvas.circle(x, y, 17, HUES[symbol])
        canvas.text(x, y + 5.5, symbol, size=15, bold=True, colour="#ffffff")
    canvas.text(170, 316, "neighbours within the cutoff", size=16)
    canvas.line((345, 160), (395, 160), tip=True)
    rows = ("how many O at 2 Å, at 3 Å, …", "how many Zn at 3 Å, …", "O and Zn at which angles", "…")
    for number, words in enumerate(rows):
        canvas.box(405, 74 + 46 * number, 262, 38, colours.chemistry)
        canvas.text(536, 99 + 46 * number, words, size=15.5)
    canvas.text(536, 316, "channels: the same from every side", size=16)
    canvas.line((677, 160), (727, 160), tip=True)
    canvas.box(737, 106, 120, 108, colours.model, radius=9)
    canvas.text(797, 138, "energy", size=16, bold=True)
    canvas.text(797, 162, "of this", size=16)
    canvas.text(797, 186, "lithium, Eᵢ", size=16)
    canvas.line((867, 160), (907, 160), tip=True)
    canvas.text(951, 153, "E = Σ Eᵢ", size=18, bold=True)
    canvas.text(951, 178, "F = −∇E", size=18, bold=True)
    canvas.text(876, 316, "sum over all atoms", size=16)


def form(canvas, field):
    """quadratic_form.md: x^T M x with the largest register of the shipped model."""
    colours = canvas.colours
    key = max(field.registers, key=lambda key: np.abs(field.registers[key].weights).sum())
    matrix = field.registers[key].operator_matrix()
    names, cell, top = ("1", "y₁", "y₂", "y₃"), 52, 44
    canvas.text(34, 160, "Eᵢ", size=22, bold=True)
    canvas.text(80, 160, "=  Σ", size=22)
    canvas.text(93, 190, "registers", size=15, colour=colours.faint)
    for k, name in enumerate(names):
        canvas.box(140 + cell * k, 122, cell, cell, colours.chemistry, radius=2)
        canvas.text(140 + cell * (k + 0.5), 154, name, size=17)
        canvas.box(620, top + cell * k, cell, cell, colours.chemistry, radius=2)
        canvas.text(620 + cell / 2, top + cell * (k + 0.6), name, size=17)
        for j in range(4):
            share = (abs(matrix[k, j]) / np.abs(matrix).max()) ** 0.5
            fill = HUES["C"] if matrix[k, j] > 0 else HUES["O"]
            canvas.box(380 + cell * j, top + cell * k, cell, cell, fill, opacity=0.8 * share, radius=2)
            canvas.text(
                380 + cell * (j + 0.5), top + cell * (k + 0.6), f"{matrix[k, j]:.0f}".replace("-", "−"), size=15
            )
    canvas.text(244, 282, "xᵀ", size=18, bold=True)
    canvas.text(484, 282, f"M in eV: one register of {SYMBOLS[key[0]]}", size=16, bold=True)
    canvas.text(646, 282, "x", size=18, bold=True)
    canvas.line((716, 70), (716, 230))
    canvas.text(736, 92, "atoms: x changes", size=17, anchor="start", bold=True)
    canvas.text(736, 116, "in every frame", size=16, anchor="start")
    canvas.text(736, 172, "circuit: M = U†OU stays", size=17, anchor="start", bold=True)
    canvas.text(736, 196, "computed exactly, or", size=16, anchor="start")
    canvas.text(736, 220, "measured once on a device", size=16, anchor="start")


def heavy_hex():
    """Where the 156 qubits of a Heron device are drawn: rows of 16, four qubits between two rows."""
    spots = {20 * row + column: (30 + 41 * column, 34 + 52 * row) for row in range(8) for column in range(16)}
    for row in range(7):
        for k, column in enumerate((3, 7, 11, 15) if row % 2 == 0 else (1, 5, 9, 13)):
            spots[20 * row + 16 + k] = (30 + 41 * column, 60 + 52 * row)
    return spots


def device(canvas, field):
    """measuring.md: where the registers of the shipped model are placed on a device of 156 qubits."""
    colours = canvas.colours
    target = FakeKingston().target
    spots = heavy_hex()
    bonds = {tuple(sorted(pair)) for pair in target.build_coupling_map()}
    for one, two in bonds:
        assert hypot(spots[one][0] - spots[two][0], spots[one][1] - spots[two][1]) < 45, "another lattice"
        canvas.line(spots[one], spots[two], width=1.2)
    # As `calibrate` does: the registers with the largest weights get the best tiles.
    keys = sorted(field.registers, key=lambda key: -np.abs(field.registers[key].weights).sum())
    tiles = place(target, [field.registers[key].n_qubits for key in keys])
    owner = {qubit: SYMBOLS[key[0]] for key, tile in zip(keys, tiles, strict=True) for qubit in tile.qubits}
    for key, tile in zip(keys, tiles, strict=True):
        canvas.line(*(spots[qubit] for qubit in tile.qubits), width=7, colour=HUES[SYMBOLS[key[0]]])
    for qubit, (x, y) in spots.items():
        canvas.circle(x, y, 8 if qubit in owner else 5, HUES[owner[qubit]] if qubit in owner else colours.use)
    assert not any(tile.round for tile in tiles), "more than one circuit"
    canvas.text(700, 44, f"{len(keys)} registers of two qubits,", size=17, anchor="start", bold=True)
    canvas.text(700, 68, "in one circuit on fake_kingston", size=17, anchor="start", bold=True)
    for number, symbol in enumerate(HUES):
        canvas.line((704, 102 + 28 * number), (732, 102 + 28 * number), width=7, colour=HUES[symbol])
        count = sum(SYMBOLS[key[0]] == symbol for key in keys)
        canvas.text(746, 108 + 28 * number, f"{symbol}: {count} register{'s' if count > 1 else ''}", anchor="start")
    canvas.text(700, 268, "run in three settings", size=17, anchor="start", bold=True)
    for number, axes in enumerate((("Z", "Z"), ("X", "Z"), ("Z", "X"))):
        for qubit, axis in enumerate(axes):
            canvas.box(704 + 90 * number + 34 * qubit, 284, 32, 34, colours.quantum if axis == "Z" else colours.model)
            canvas.text(720 + 90 * number + 34 * qubit, 307, axis, size=17, bold=True)
    canvas.text(700, 350, "give every matrix M, with its", size=16, anchor="start")
    canvas.text(700, 374, "standard errors", size=16, anchor="start")


def counted(canvas, field):
    """ledger.md: the trainable numbers of the shipped model beside those without labels."""
    colours = canvas.colours
    parts = [(e.symbol, e.angles + e.weights - e.tied) for e in field.ledger.species]
    canvas.text(20, 34, f"trainable: {field.n_trainable} numbers", size=17, anchor="start", bold=True)
    left = 20.0
    for symbol, count in [*parts, ("reference energies", field.ledger.reference_energies)]:
        width = 9.5 * count
        canvas.box(left, 48, width, 46, HUES.get(symbol, colours.faint), radius=2)
        if symbol in HUES:
            canvas.text(left + width / 2, 118, f"{symbol} {count}", size=16)
        else:
            canvas.text(left + width, 34, f"{symbol} {count}", anchor="end")
        left += width
    entries = field.ledger.species
    canvas.text(20, 168, "listed, not counted:", size=17, anchor="start", bold=True)
    for number, words in enumerate(
        (
            f"{sum(e.channels for e in entries)} channels, chosen with labels (which, not how much)",
            f"{sum(e.label_free for e in entries):,} means and entries of linear maps, from structures alone",
            f"{sum(e.tied for e in entries)} angles and weights that follow from the others",
        )
    ):
        canvas.text(20, 196 + 26 * number, words, size=16, anchor="start")


PICTURES = {
    "register": (
        register_of_an_atom,
        (1000, 200),
        "Amplitudes enter a circuit of two qubits; shots give an energy.",
    ),
    "environment": (
        environment,
        (1000, 336),
        "The surroundings of a lithium atom give channels, these its energy.",
    ),
    "form": (form, (1000, 300), "The energy of an atom: a row of amplitudes times a matrix of 4 by 4 times a column."),
    "device": (device, (1000, 430), "Map of a device of 156 qubits with the pairs that hold the registers of a model."),
    "counted": (
        counted,
        (1000, 262),
        "The 99 trainable numbers of the shipped model by element; what is not counted.",
    ),
}


def main():
    """Write all pictures."""
    field = ForceField.load(MODEL)
    for name, (draw, size, words) in PICTURES.items():
        for theme, colours in (("light", LIGHT), ("dark", DARK)):
            canvas = Canvas(*size, words, colours)
            draw(canvas, field)
            (HERE / f"{name}-{theme}.svg").write_text(canvas.done(), encoding="utf-8")


if __name__ == "__main__":
    main()
