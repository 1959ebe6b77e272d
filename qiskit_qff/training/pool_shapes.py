"""From sums over channels of pure degree to those over other angular functions of the same radial functions.

The angular functions of a couple of radial functions are fixed combinations of its Legendre polynomials, so the sums
need not be made again; and those over pure degrees are the cheapest, because each needs its own harmonics only.
"""

from __future__ import annotations

from qiskit_qff.array_types import FloatArray
from qiskit_qff.compression.compressor import PoolStatistics
from qiskit_qff.compression.normal_equations import NormalEquations
from qiskit_qff.descriptors.angular_functions import cosine_powers
from qiskit_qff.descriptors.pool import PoolSettings, with_angular_functions
from qiskit_qff.descriptors.tables import make_tables


def reshaped(statistics: PoolStatistics, settings: PoolSettings) -> PoolStatistics:
    """The same sums over the channels of the settings; the Gram matrix is changed in place.

    Args:
        statistics: Sums over channels of pure degree, all degrees of a couple in a row.
        settings: Pool settings.
    """
    if settings.angular == "legendre" or settings.l_max == 0:
        return statistics
    rows, starts = cosine_powers(settings.l_max), statistics.tables.channel_start
    gram, moment, mean = statistics.equations.gram, statistics.equations.moment.copy(), statistics.mean.copy()
    covariance = {}
    for s, number in enumerate(statistics.tables.species.tolist()):
        n_two = len(statistics.sets[number].pair_species)
        three = slice(int(starts[s]) + n_two, int(starts[s + 1]))
        moment[three], mean[three] = _mixed(moment[three], rows), _mixed(mean[three], rows)
        # PERF: rows of the Gram matrix a few hundred at a time; a copy of it would take as much memory again.
        for begin in range(0, len(gram), 256):
            gram[begin : begin + 256, three] = _mixed(gram[begin : begin + 256, three], rows)
        for begin in range(0, len(gram), 256):
            gram[three, begin : begin + 256] = _mixed(gram[three, begin : begin + 256].T, rows).T
        own = statistics.covariance[number].copy()
        own[:, n_two:] = _mixed(own[:, n_two:], rows)
        own[n_two:] = _mixed(own[n_two:].T, rows).T
        covariance[number] = own
    sets = {number: with_angular_functions(channels, settings) for number, channels in statistics.sets.items()}
    tables = make_tables(sets, statistics.tables.r_cut, core_start=statistics.tables.core_start)
    equations = NormalEquations(gram, moment, statistics.equations.constant)
    return PoolStatistics(sets, tables, mean, covariance, equations)


def _mixed(values: FloatArray, rows: FloatArray) -> FloatArray:
    """Columns of pure degree combined by the rows, couple by couple; the shape stays."""
    blocks = values.reshape(*values.shape[:-1], -1, len(rows))
    mixed: FloatArray = (blocks @ rows.T).reshape(values.shape)
    return mixed
