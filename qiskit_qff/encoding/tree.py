r"""The binary tree of rotations that prepares any real state on the first few basis states of a register.

The state is split qubit by qubit, from the most significant one down: level l turns qubit n-1-l by an angle
that depends on the l qubits above it, dividing the weight of each branch between its two halves,

.. math:: \varphi = 2\,\mathrm{atan2}(r_{right}, r_{left}),

with r the norm of a half (on the last level the signed amplitude). Branches outside the first
``n_amplitudes`` basis states carry no weight and need no gate: level l has ``ceil(n_amplitudes / 2**(n-l))``
branches and as many RY gates. A last branch of which only the left half is inside must have the angle 0; see
:attr:`TreeLayout.half_levels`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from qiskit_qff.encoding.amplitudes import qubits_for
from qiskit_qff.encoding.multiplexor import Entangler, Multiplexor, Rotation, open_multiplexor


@dataclass(frozen=True)
class TreeLayout:
    """Gates of the rotation tree over the first ``n_amplitudes`` basis states."""

    n_amplitudes: int
    """Number of basis states that the tree can reach."""
    levels: tuple[Multiplexor, ...]
    """One multiplexor per level, root first; level l turns qubit ``n_qubits - 1 - l``."""

    @property
    def n_qubits(self) -> int:
        """Number of qubits."""
        return len(self.levels)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Index of each level's first gate angle; one more entry holds the number of all gates."""
        sums = [0]
        for level in self.levels:
            sums.append(sums[-1] + len(level.masks))
        return tuple(sums)

    @property
    def n_gates(self) -> int:
        """Number of RY gates: ``n_amplitudes - 1`` and one more per half level."""
        return self.offsets[-1]

    @cached_property
    def half_levels(self) -> tuple[int, ...]:
        """Levels whose last branch has only its left half inside, so that its angle must be 0."""
        widths = [2 ** (self.n_qubits - level - 1) for level in range(self.n_qubits)]
        return tuple(level for level, width in enumerate(widths) if -(-self.n_amplitudes // width) % 2 == 1)

    def operations(self) -> list[Rotation | Entangler]:
        """The gates in circuit order; rotations carry their index among all gate angles."""
        gates: list[Rotation | Entangler] = []
        for offset, level in zip(self.offsets, self.levels, strict=False):
            for operation in level.operations():
                if isinstance(operation, Rotation):
                    gates.append(Rotation(operation.target, operation.gate + offset))
                else:
                    gates.append(operation)
        return gates


@lru_cache(maxsize=128)
def tree_layout(n_amplitudes: int) -> TreeLayout:
    """The tree over the first ``n_amplitudes`` basis states of the smallest register that holds them.

    Raises:
        ConfigError: If there are fewer than two amplitudes.
    """
    n_qubits = qubits_for(n_amplitudes)
    levels = []
    for level in range(n_qubits):
        n_branches = -(-n_amplitudes // 2 ** (n_qubits - level))
        branches = tuple(range(n_branches))
        target = n_qubits - 1 - level
        # Bit i of a branch index is qubit target + 1 + i: branches are numbered by the qubits above the
        # target.
        controls = tuple(range(target + 1, n_qubits))
        levels.append(open_multiplexor(target=target, controls=controls, patterns=branches, masks=branches))
    return TreeLayout(n_amplitudes, tuple(levels))
