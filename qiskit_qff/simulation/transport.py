r"""Diffusivity and conductivity of an ion that diffuses; an upper bound for one that stays in its cage.

.. math:: D^* = \tfrac16 \frac{d}{dt} \langle |r_i(t_0 + t) - r_i(t_0)|^2 \rangle

is the tracer diffusivity of one element, with positions relative to the framework: the centre of mass of the other
elements. kinisi estimates it by Bayesian regression of the mean squared displacement with the covariance between lag
times. Conductivities follow from the Nernst-Einstein relation, :math:`\sigma = N z^2 e^2 D / (V k_B T)`, and activation
energies from :math:`\ln D = \ln D_0 - E_a / (k_B T)`. Correlations between ions (the Haven ratio) are left to kinisi's
``JumpDiffusionAnalyzer``: their error is too large in runs of usual length.

**Caged ions.** A regression always gives a number, and kinisi does not ask whether ions diffuse at all; that check is
ours. It looks at the mean squared displacement over lag times from 5 % to 50 % of the trajectory: its exponent (1 for
diffusion, 2 for free flight, near 0 in a cage), and its growth, expressed as hops of 3 Å. Fewer than three hops can be
none at all (95 %, Poisson), so such an ion has no diffusivity, only a bound: what the displacement at the longest lag
allows, and three hops more.

References:
    kinisi: doi:10.21105/joss.05984; the regression: doi:10.1021/acs.jctc.4c01249; the number of hops as a measure of
    how reliable a diffusivity is: doi:10.1038/s41524-018-0074-y.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses, atomic_numbers, chemical_symbols
from scipy.constants import elementary_charge

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.errors import DataError, MissingDependencyError
from qiskit_qff.simulation.trajectory import Trajectory

CM2_PER_S = 1e-4  # 1 Å²/ps in cm²/s
S_PER_CM = elementary_charge / 1e-8 / 1e-12  # 1 e²/(eV Å ps) in S/cm
FIT_RANGE = (0.05, 0.5)  # lag times of the fit, in parts of the trajectory
HOP_ANG = 3.0  # a usual distance between lithium sites
EXTRAPOLATED_K = 300.0  # temperature that diffusivities at several temperatures are extrapolated to
_FEWEST_FRAMES = 40
# More frames and lags than these change no diffusivity.
_FRAMES, _LAGS, _ORIGINS = 2000, 30, 5000
# Below this exponent an ion is caged, below the second it is not yet diffusive, above the third it flies.
_CAGED, _SLOW, _BALLISTIC = 0.2, 0.7, 1.5
# An ion that moved less than this is vibrating, whatever its exponent.
_VIBRATION_ANG2 = 1.0
# Hops that a diffusivity needs at least, and that a good one rests on.
_FEWEST_HOPS, _ENOUGH_HOPS = 3.0, 30.0


@dataclass(frozen=True)
class Transport:
    """How one element moves; diffusivities in Å²/ps."""

    element: str
    n_ions: int
    # Lag times that were looked at, in ps. The mean squared displacement grows as t^exponent over them, to msd_ang2.
    fit_range_ps: tuple[float, float]
    exponent: float
    msd_ang2: float
    # Its growth, as a number of hops of 3 Å by all ions over the whole trajectory.
    n_hops: float
    is_caged: bool
    # Upper bound (95 %) for a caged ion.
    upper: float | None
    # Posterior mean, standard deviation, 95 % interval, and intercept of the line in Å²; None without diffusion.
    diffusivity: float | None = None
    error: float | None = None
    interval: tuple[float, float] | None = None
    intercept_ang2: float | None = None

    @property
    def cautions(self) -> list[str]:
        """What a reader should know before using these numbers."""
        name, power, found = self.element, f"as t^{self.exponent:.2f}", []
        hops = f"about {self.n_hops:.0f} hops of {HOP_ANG:g} Å"
        if self.upper is not None:
            reach = f"{self.msd_ang2:.2g} Å² after {self.fit_range_ps[1]:.3g} ps"
            found.append(
                f"{name} stays in its cages: its mean squared displacement is {reach}, growing {power}, {hops} in all. "
                f"D({name}) is below {self.upper * CM2_PER_S:.1g} cm²/s (95 %); no conductivity is given"
            )
        elif self.diffusivity is None:
            found.append(
                f"the mean squared displacement of {name} grows {power}, faster than diffusion: free flight, or a "
                "drift. No diffusivity is given"
            )
        else:
            if self.exponent < _SLOW:
                found.append(
                    f"the mean squared displacement of {name} grows {power}, slower than diffusion: D still depends on "
                    "the length of the run. Run longer"
                )
            if self.n_hops < _ENOUGH_HOPS:
                found.append(f"D({name}) rests on {hops}; run longer")
        return found


def relative_to_framework(trajectory: Trajectory, element: str) -> FloatArray:
    """Positions about the centre of mass of the other elements (of all atoms, where there is no other), in Å."""
    others = trajectory.numbers != atomic_numbers.get(element, 0)
    masses = np.where(others | ~others.any(), atomic_masses[trajectory.numbers], 0.0)
    centres = np.einsum("tai,a->ti", trajectory.positions, masses / masses.sum())
    relative: FloatArray = trajectory.positions - centres[:, None]
    return relative


def mean_squared_displacements(trajectory: Trajectory, element: str = "Li") -> dict[str, FloatArray]:
    """Mean squared displacement of every element about the framework, up to half the length of the trajectory.

    Returns:
        ``lag_ps``, spaced geometrically, and by element the displacement in Å², each of shape ``(n_lags,)``.
    """
    spacing = trajectory.spacing_ps()
    lags = np.append(0, _lags(1, max(1, trajectory.n_frames // 2), 3 * _LAGS))
    squares = _mean_squares(relative_to_framework(trajectory, element), lags)
    curves = {
        chemical_symbols[number]: squares[:, trajectory.numbers == number].mean(axis=1)
        for number in np.unique(trajectory.numbers)
    }
    return {"lag_ps": spacing * lags, **curves}


def transport(trajectory: Trajectory, element: str, *, fit_from_ps: float | None = None) -> Transport:
    """Whether an element diffuses, and how fast.

    Args:
        fit_from_ps: shortest lag time of the fit in ps; default 5 % of the trajectory.
    """
    chosen = trajectory.numbers == atomic_numbers.get(element, 0)
    if not chosen.any():
        raise DataError(f"the trajectory has no {element!r} atom.")
    spacing, n_frames, n_ions = trajectory.spacing_ps(), trajectory.n_frames, int(chosen.sum())
    if n_frames < _FEWEST_FRAMES:
        raise DataError(f"{n_frames} frames are too few for a diffusivity; at least {_FEWEST_FRAMES} are needed.")
    first = max(1, round(FIT_RANGE[0] * n_frames if fit_from_ps is None else fit_from_ps / spacing))
    last = int(FIT_RANGE[1] * n_frames)
    if 2 * first > last:
        raise DataError(
            f"a fit from {first * spacing:g} ps needs a trajectory of {4 * first * spacing:g} ps at least; fit from an "
            "earlier time (--fit-from), or run longer."
        )
    ions = relative_to_framework(trajectory, element)[:, chosen]
    early, late = _mean_squares(ions, np.array([first, last])).mean(axis=1).tolist()
    exponent = float(np.log(late / early) / np.log(last / first)) if early > 0.0 else 0.0
    length_ps, late_ps = n_frames * spacing, last * spacing
    n_hops = n_ions * (late - early) * n_frames / (last - first) / HOP_ANG**2
    is_caged = exponent < _CAGED or late < _VIBRATION_ANG2 or n_hops < _FEWEST_HOPS
    upper = (late / late_ps + _FEWEST_HOPS * HOP_ANG**2 / (n_ions * length_ps)) / 6.0 if is_caged else None
    known = (element, n_ions, (first * spacing, late_ps), exponent, late, max(0.0, n_hops), is_caged, upper)
    if is_caged or exponent >= _BALLISTIC:
        return Transport(*known)
    stride = -(-n_frames // _FRAMES)
    lags = _lags(max(1, first // stride), last // stride, _LAGS)
    samples, intercept = _regression(ions[::stride], lags, stride * spacing)
    low, high = np.percentile(samples, [2.5, 97.5]).tolist()
    return Transport(*known, float(samples.mean()), float(samples.std(ddof=1)), (low, high), intercept)


def conductivity_s_per_cm(
    diffusivity_ang2_per_ps: float, *, n_ions: int, volume_ang3: float, temperature_k: float, charge: float = 1.0
) -> float:
    """Conductivity of Nernst and Einstein in S/cm, of ions of a charge in elementary charges."""
    carriers = n_ions * charge**2 / (volume_ang3 * units.kB * temperature_k)
    return float(carriers * diffusivity_ang2_per_ps * S_PER_CM)


@dataclass(frozen=True, eq=False)
class Arrhenius:
    """A straight line through ln D against 1/T."""

    activation_ev: float
    activation_error_ev: float
    prefactor_cm2_per_s: float
    # Reduced chi square; NaN for two temperatures.
    chi_square: float
    # The points and their standard errors, in K and cm²/s, each of shape (n_points,).
    temperatures_k: FloatArray
    diffusivities: FloatArray
    errors: FloatArray
    # Of -Ea/kB in K and ln D0, widened where points scatter.
    covariance: FloatArray

    def diffusivity(self, temperature_k: float) -> tuple[float, float]:
        """Diffusivity in cm²/s at another temperature in K, and the standard error of its logarithm."""
        at = np.array([1.0 / temperature_k, 1.0])
        logarithm = np.log(self.prefactor_cm2_per_s) - self.activation_ev / (units.kB * temperature_k)
        return float(np.exp(logarithm)), float(np.sqrt(at @ self.covariance @ at))


def fit_arrhenius(
    temperatures_k: Sequence[float], diffusivities: Sequence[float], errors: Sequence[float]
) -> Arrhenius:
    """Fit a straight line to the logarithms of diffusivities in cm²/s, at two temperatures at least."""
    temperatures, values, deviations = (
        np.asarray(x, dtype=np.float64) for x in (temperatures_k, diffusivities, errors)
    )
    if len(np.unique(temperatures)) < 2:
        raise DataError("an activation energy needs diffusivities at two temperatures at least.")
    bad = np.flatnonzero(~((temperatures > 0.0) & (values > 0.0) & (deviations > 0.0)))
    if len(bad):
        at = int(bad[0])
        raise DataError(
            f"D = ({values[at]:.2g} ± {deviations[at]:.2g}) cm²/s at {temperatures[at]:g} K has no logarithm with an "
            "error; run longer, or leave this temperature out."
        )
    inverse, logarithms, weights = 1.0 / temperatures, np.log(values), values / deviations
    # A fit about the weighted mean of 1/T is well conditioned; its two errors are independent.
    centre = float(np.average(inverse, weights=weights**2))
    line, covariance = np.polyfit(inverse - centre, logarithms, 1, w=weights, cov="unscaled")
    freedom = len(values) - 2
    residuals = weights * (logarithms - np.polyval(line, inverse - centre))
    chi_square = float((residuals**2).sum() / freedom) if freedom else float("nan")
    shift = np.array([[1.0, 0.0], [-centre, 1.0]])  # from (slope, value at the centre) to (slope, value at 1/T = 0)
    slope, at_infinity = shift @ line
    covariance = shift @ covariance @ shift.T * max(1.0, chi_square if freedom else 1.0)
    return Arrhenius(
        activation_ev=float(-slope * units.kB),
        activation_error_ev=float(np.sqrt(covariance[0, 0]) * units.kB),
        prefactor_cm2_per_s=float(np.exp(at_infinity)),
        chi_square=chi_square,
        temperatures_k=temperatures,
        diffusivities=values,
        errors=deviations,
        covariance=covariance,
    )


def activation(results: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any] | None, list[str]]:
    """Activation energy and extrapolated diffusivity of the trajectories that show diffusion.

    Args:
        results: numbers of each trajectory, and its name, as in the JSON of ``qff analyse``.

    Returns:
        Numbers by their names in JSON, None without enough temperatures; and cautions.
    """
    points, cautions = [], []
    for one in results:
        point = tuple(one[key] for key in ("temperature_k", "diffusivity_cm2_per_s", "diffusivity_error_cm2_per_s"))
        if None in point[:2]:
            cautions.append(
                f"{one['name']} is left out of the Arrhenius line: no diffusion, or no temperature (--temperature)"
            )
        else:
            points.append(point)
    try:
        fitted = fit_arrhenius(*([point[column] for point in points] for column in range(3)))
    except DataError as error:
        return None, [*cautions, f"no activation energy: {error}"]
    value, spread = fitted.diffusivity(EXTRAPOLATED_K)
    return {
        "activation_ev": fitted.activation_ev,
        "activation_error_ev": fitted.activation_error_ev,
        "prefactor_cm2_per_s": fitted.prefactor_cm2_per_s,
        "reduced_chi_square": fitted.chi_square,
        "n_temperatures": len(points),
        "points": points,
        "extrapolated_k": EXTRAPOLATED_K,
        "extrapolated_cm2_per_s": value,
        "extrapolated_log_error": spread,
        "extrapolated_interval_cm2_per_s": (value * np.exp(-spread), value * np.exp(spread)),
    }, cautions


def _lags(first: int, last: int, count: int) -> IntArray:
    """Lags in frames, evenly spaced on a logarithmic scale."""
    return np.unique(np.round(np.geomspace(first, last, count)).astype(np.int64))


def _mean_squares(positions: FloatArray, lags: IntArray) -> FloatArray:
    """Squared displacement of each atom, averaged over origins, shape ``(n_lags, n_atoms)``, in Å²."""
    squares = []
    for lag in lags:
        n_origins = len(positions) - int(lag)
        step = -(-n_origins // _ORIGINS)
        moves = positions[lag::step] - positions[:n_origins:step]
        squares.append(np.einsum("tai,tai->a", moves, moves) / len(moves))
    return np.array(squares)


def _regression(positions: FloatArray, lags: IntArray, spacing_ps: float) -> tuple[FloatArray, float]:
    """Posterior samples of the tracer diffusivity in Å²/ps, and the intercept of its line in Å², by kinisi."""
    try:
        import scipp as sc
        from kinisi.analyze import DiffusionAnalyzer
    except ImportError as error:
        raise MissingDependencyError("diffusivities need kinisi: pip install 'qiskit_qff[analysis]'.") from error
    # Positions are followed across borders and free of the framework's drift: a cell that nothing leaves keeps them so.
    size = 10.0 * (1.0 + float(np.abs(positions).max()))
    frames = [Atoms(f"H{positions.shape[1]}", frame, cell=[size] * 3, pbc=True) for frame in positions]
    state = np.random.get_state()  # noqa: NPY002 - which kinisi changes
    try:
        # NOTE: kinisi truncates lags over time step to integers, so time counts frames here.
        found = DiffusionAnalyzer.from_ase(
            trajectory=frames,
            specie="H",
            time_step=sc.scalar(1.0, unit="ps"),
            step_skip=sc.scalar(1),
            dt=sc.array(dims=["time interval"], values=lags.astype(np.float64), unit="ps"),
            progress=False,
        )
        # Walkers start with no intercept: 500 steps of burn-in, kinisi's default, can be too few where ions rattle.
        found.diffusion(
            sc.scalar(float(lags[0]), unit="ps"),
            n_burn=1000,
            n_samples=500,
            progress=False,
            random_state=np.random.RandomState(0),
        )
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return found.D.values / (CM2_PER_S * spacing_ps), float(found.intercept.values.mean())
