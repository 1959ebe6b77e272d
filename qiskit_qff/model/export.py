r"""A model as plain numbers for other programs: what each element's M is, and how its channels are computed.

The document needs no circuit and nothing of this package: energies are :math:`E = \sum_i x_i^T M x_i + e + core`, with
:math:`x = (1, T (D - \bar D))`. ``examples/numpy_reader.py`` is a whole reader of 63 lines, tested against the package.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from qiskit_qff import __version__
from qiskit_qff.descriptors.channels import ChannelSet, OwnSet
from qiskit_qff.durable import write_atomically
from qiskit_qff.errors import ConfigError
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.species_model import SpeciesModel

FORMAT, VERSION = "qiskit_qff export", 1
_KNOWN = {"center", "pair_species", "pair_rows", "slot_species", "slot_rows", "triples", "angular"}
_KNOWN |= {"products", "offsets", "widths"}
"""What a set of channels consists of; an export that left something out would be wrong without a word."""

FORMULAS = {
    "energy": "E = sum_i x M x + reference_energy + half of the core energies of i's pairs; x = (1, map (D - mean))",
    "two_body": "D = sum_j g(s_ij) over neighbours j of that element within r_cut",
    "three_body": "D = sum_jk g_first(s_ij) g_second(s_ik) sum_l legendre[l] P_l(cos jik), j = k included",
    "product": "D = L(D_a - c_a, w_a) L(D_b - c_b, w_b), L(v, w) = v/sqrt(1 + v^2/w^2); [a, b] = of, channels before "
    "it counted from 0, [c_a, c_b] = offsets, [w_a, w_b] = widths",
    "radial": "[c, a, rho, k]: g(s) = exp(-a (s - c)^2) (rho / s)^k S(s; 0, r_cut)",
    "distance": "s = r, and below the pair's level L: s = L - w (t - t^3 + t^4/2), t = min(1, (L - r)/w), w = L/10",
    "switch": "S(r; p, q) = 1 - 10 t^3 + 15 t^4 - 6 t^5, t = (r - p)/(q - p) between 0 and 1",
    "core": "Z S1 + h tanh(Z (S2 - S1)/h), S1 = S(r; inner, outer), S2 = S(r; 0.65/0.95 level, level), h = core_height",
    "Z": "14.3996454784 z1 z2/(scale r) sum_k A_k exp(-b_k scale r (z1^0.23 + z2^0.23)/0.4685); A = 0.18175, 0.50986, "
    "0.28022, 0.02817; b = 3.1998, 0.94229, 0.4029, 0.20162",
}
"""All there is to know, in the document itself."""


def export_document(field: ForceField) -> dict[str, Any]:
    """The document of a model."""
    matrices, symbols = field.operator_matrices(), [chemical_symbols[m.number] for m in field.models]
    core = field.repulsion
    pairs = [(a, b) for a in range(len(symbols)) for b in range(a, len(symbols))]
    return {
        "format": FORMAT,
        "version": VERSION,
        "written_by": f"qiskit_qff {__version__}",
        "units": {"length": "angstrom", "energy": "eV"},
        "formulas": FORMULAS,
        "r_cut": field.r_cut,
        "core_height": core.height,
        "pairs": {
            f"{symbols[a]}-{symbols[b]}": {
                name: float(getattr(core, name)[a, b]) for name in ("inner", "outer", "scale", "level")
            }
            for a, b in pairs
        },
        "elements": {
            symbol: _element(model, matrices[model.number]) for symbol, model in zip(symbols, field.models, strict=True)
        },
    }


def write_export(path: Path, field: ForceField) -> None:
    """Write the document; the file appears whole or not at all."""
    write_atomically(path, json.dumps(export_document(field), indent=1, allow_nan=False) + "\n")


def _element(model: SpeciesModel, matrix: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    """What is known of one element."""
    used = model.compression.n_features + 1
    return {
        "number": model.number,
        "reference_energy": model.reference_energy,
        "channels": _channels(model.compression.channels),
        "mean": model.compression.mean.tolist(),
        "map": model.compression.matrix.tolist(),
        "M": matrix[:used, :used].tolist(),
    }


def _channels(channels: ChannelSet | OwnSet) -> list[dict[str, Any]]:
    """Channels one by one, in the order of the means."""
    if isinstance(channels, OwnSet):
        raise ConfigError(f"the descriptor '{channels.name}' is code, so that its models can't be exported as numbers.")
    if unknown := set(channels.to_dict()) - _KNOWN:
        raise ConfigError(f"channels with {', '.join(sorted(unknown))} can't be exported by this version.")
    pairs = [
        {"kind": "two_body", "neighbor": chemical_symbols[number], "radial": row.tolist()}
        for number, row in zip(channels.pair_species, channels.pair_rows, strict=True)
    ]
    slots = [
        {"neighbor": chemical_symbols[number], "radial": row.tolist()}
        for number, row in zip(channels.slot_species, channels.slot_rows, strict=True)
    ]
    angular = channels.angular_coefficients(channels.l_max).tolist()
    triples = [
        {"kind": "three_body", "first": slots[a], "second": slots[b], "legendre": coefficients[: degree + 1]}
        for (a, b, degree), coefficients in zip(channels.triples.tolist(), angular, strict=True)
    ]
    products = [
        {"kind": "product", "of": factors.tolist(), "offsets": offsets.tolist(), "widths": widths.tolist()}
        for factors, offsets, widths in zip(channels.products, channels.offsets, channels.widths, strict=True)
    ]
    return pairs + triples + products
