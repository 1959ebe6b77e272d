"""Draw the picture of the README: `python docs/figures/architecture.py` writes it for light and for dark pages.

Nothing but rectangles, lines and text, so that it stays sharp and small, and a change of words is a change of words.
"""

from dataclasses import dataclass
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True)
class Colours:
    """Colours for one kind of page."""

    ink: str
    """Text and lines."""
    faint: str
    """Second lines of boxes and captions."""
    chemistry: str
    """Fill of the boxes that know atoms."""
    quantum: str
    """Fill of the boxes that know qubits."""
    model: str
    """Fill of the box where both meet."""
    use: str
    """Fill of what comes out."""


LIGHT = Colours("#1f2933", "#52606d", "#e3f1ea", "#e4edfa", "#fdf0d9", "#f0f1f4")
DARK = Colours("#e6e9ee", "#a9b3bf", "#1d3a30", "#1f3350", "#4a3a19", "#2b3037")


@dataclass(frozen=True)
class Box:
    """One step of the data."""

    x: float
    """Left edge."""
    y: float
    """Upper edge."""
    width: float
    """Width."""
    title: str
    """First line."""
    lines: tuple[str, ...]
    """Further lines."""
    fill: str
    """Name of its colour."""
    height: float = 84
    """Height."""


BOXES = (
    Box(10, 56, 168, "structures", ("ab initio energies,", "forces, stresses"), "chemistry"),
    Box(200, 56, 168, "descriptors", ("two- and three-body", "channels, hundreds"), "chemistry"),
    Box(390, 56, 168, "compression", ("features: the best,", "decorrelated"), "chemistry"),
    Box(10, 224, 168, "circuit U(θ)", ("registers of", "2 qubits each"), "quantum"),
    Box(200, 224, 168, "readout O", ("diagonal in Z,", "one setting"), "quantum"),
    Box(390, 224, 168, "M = U†OU", ("computed exactly,", "or measured once"), "quantum"),
    Box(602, 120, 164, "E = Σ xᵀ M x", ("forces and virial", "by the chain rule;", "≤ 99 parameters"), "model", 124),
    Box(816, 40, 168, "simulation", ("ASE and LAMMPS:", "dynamics, screening"), "use"),
    Box(816, 140, 168, "reports", ("errors, ledger,", "uncertainty, grades"), "use"),
    Box(816, 240, 168, "devices", ("measure M, or train,", "on Aer, fake, IBM"), "use"),
)
ARROWS = (
    ((178, 98), (200, 98)),
    ((368, 98), (390, 98)),
    ((558, 98), (578, 98), (578, 160), (602, 160)),
    ((178, 266), (200, 266)),
    ((368, 266), (390, 266)),
    ((558, 266), (578, 266), (578, 204), (602, 204)),
    ((766, 182), (790, 182), (790, 82), (816, 82)),
    ((766, 182), (816, 182)),
    ((766, 182), (790, 182), (790, 282), (816, 282)),
)
CAPTIONS = (
    (10, 40, "chemistry: features y of every atom, x = (1, y)"),
    (10, 208, "quantum: one matrix for every register"),
)
WIDTH, HEIGHT = 1000, 340
WORDS = (
    "Structures become descriptors, of which the best are compressed to amplitudes x. A circuit U and a readout O make "
    "a matrix M for every register. Energies are sums of x transposed M x, and drive simulations, reports and devices."
)


def drawing(colours: Colours) -> str:
    """The picture as SVG."""
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="{FONT}" role="img" '
            'aria-labelledby="title">'
        ),
        f'<title id="title">{escape(WORDS)}</title>',
        (
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0.5 L8 4 L0 7.5 z" fill="{colours.faint}"/></marker></defs>'
        ),
    ]
    for x, y, words in CAPTIONS:
        parts.append(f'<text x="{x}" y="{y}" font-size="15" fill="{colours.faint}">{escape(words)}</text>')
    for points in ARROWS:
        path = " ".join(f"{'L' if number else 'M'}{x} {y}" for number, (x, y) in enumerate(points))
        parts.append(
            f'<path d="{path}" fill="none" stroke="{colours.faint}" stroke-width="1.6" stroke-linejoin="round" '
            'marker-end="url(#tip)"/>'
        )
    for box in BOXES:
        parts += _box(box, colours)
    return "\n".join([*parts, "</svg>", ""])


def _box(box: Box, colours: Colours) -> list[str]:
    """A box with its words in the middle."""
    fill = getattr(colours, box.fill)
    middle = box.x + box.width / 2
    top = box.y + (box.height - 22 * (1 + len(box.lines))) / 2 + 17
    parts = [
        (
            f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="9" fill="{fill}" '
            f'stroke="{colours.faint}" stroke-opacity="0.45"/>'
        ),
        (
            f'<text x="{middle}" y="{top}" font-size="17" font-weight="600" text-anchor="middle" fill="{colours.ink}">'
            f"{escape(box.title)}</text>"
        ),
    ]
    for number, line in enumerate(box.lines, start=1):
        parts.append(
            f'<text x="{middle}" y="{top + 22 * number}" font-size="15" text-anchor="middle" fill="{colours.ink}">'
            f"{escape(line)}</text>"
        )
    return parts


def main() -> None:
    """Write both pictures."""
    (HERE / "architecture-light.svg").write_text(drawing(LIGHT), encoding="utf-8")
    (HERE / "architecture-dark.svg").write_text(drawing(DARK), encoding="utf-8")


if __name__ == "__main__":
    main()
