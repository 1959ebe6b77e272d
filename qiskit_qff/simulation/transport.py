r"""Diffusivity and conductivity of an ion that diffuses; an upper bound for one that stays in its cage.

.. math:: D^* = \tfrac16 \frac{d}{dt} \langle |r_i(t_0 + t) - r_i(t_0)|^2 \rangle

is the tracer diffusivity of one element, with positions relative to the framework: the centre of mass of the other
elements. kinisi estimates it by Bayesian regression of the mean squared displacement with the covariance between lag
times. Conductivities follow from the Nernst-Einstein relation, :math:`\sigma = N z^2 e^2 D / (V k_B T)`, and activation
energies from :math:`\ln D = \ln D_0 - E_a / (k_B T)`.

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


def transport(
    trajectory: Trajectory, element: str, *, temperature_k: float | None = None, charge: float = 1.0
) -> dict[str, Any]:
    """Whether an element diffuses, and how fast.

    Args:
        temperature_k: in K, for the conductivity.
        charge: of an ion, in elementary charges.

    Returns:
        Named as in the JSON of ``qff analyse``: the lag times looked at; the exponent of the mean squared displacement
        over them, and its growth as a number of hops of 3 Å by all ions over the whole trajectory; for a caged ion an
        upper bound (95 %); for a diffusing one the posterior's mean, standard deviation and 95 % interval, and the
        intercept of the line; and ``cautions``.
    """
    chosen = trajectory.numbers == atomic_numbers.get(element, 0)
    if not chosen.any():
        raise DataError(f"the trajectory has no {element!r} atom.")
    spacing, n_frames, n_ions = trajectory.spacing_ps(), trajectory.n_frames, int(chosen.sum())
    if n_frames < _FEWEST_FRAMES:
        raise DataError(f"{n_frames} frames are too few for a diffusivity; at least {_FEWEST_FRAMES} are needed.")
    first, last = max(1, round(FIT_RANGE[0] * n_frames)), int(FIT_RANGE[1] * n_frames)
    ions = relative_to_framework(trajectory, element)[:, chosen]
    early, late = _mean_squares(ions, np.array([first, last])).mean(axis=1).tolist()
    exponent = float(np.log(late / early) / np.log(last / first)) if early > 0.0 else 0.0
    late_ps, power = last * spacing, f"as t^{exponent:.2f}"
    n_hops = n_ions * (late - early) * n_frames / (last - first) / HOP_ANG**2
    hops = f"about {max(0.0, n_hops):.0f} hops of {HOP_ANG:g} Å"
    cautions: list[str] = []
    told: dict[str, Any] = {"n_ions": n_ions, "is_caged": False, "msd_exponent": exponent, "n_hops": max(0.0, n_hops)}
    told |= {"diffusivity_fit_range_ps": (first * spacing, late_ps), "cautions": cautions}
    told |= {f"diffusivity{kind}_cm2_per_s": None for kind in ("", "_error", "_interval95", "_upper")}
    if exponent < _CAGED or late < _VIBRATION_ANG2 or n_hops < _FEWEST_HOPS:
        upper = (late / late_ps + _FEWEST_HOPS * HOP_ANG**2 / (n_ions * n_frames * spacing)) / 6.0 * CM2_PER_S
        cautions.append(
            f"{element} stays in its cages: its mean squared displacement is {late:.2g} Å² after {late_ps:.3g} ps, "
            f"growing {power}, {hops} in all. D({element}) is below {upper:.1g} cm²/s (95 %); no conductivity is given"
        )
        return told | {"is_caged": True, "diffusivity_upper_cm2_per_s": upper}
    if exponent >= _BALLISTIC:
        cautions.append(
            f"the mean squared displacement of {element} grows {power}, faster than diffusion: free flight, or a "
            "drift. No diffusivity is given"
        )
        return told
    if exponent < _SLOW:
        cautions.append(
            f"the mean squared displacement of {element} grows {power}, slower than diffusion: D still depends on "
            "the length of the run. Run longer"
        )
    if n_hops < _ENOUGH_HOPS:
        cautions.append(f"D({element}) rests on {hops}; run longer")
    stride = -(-n_frames // _FRAMES)
    lags = _lags(max(1, first // stride), last // stride, _LAGS)
    samples, intercept = _regression(ions[::stride], lags, stride * spacing)
    value, error = float(samples.mean()), float(samples.std(ddof=1))
    told |= {"diffusivity_cm2_per_s": value, "diffusivity_error_cm2_per_s": error, "msd_intercept_ang2": intercept}
    told["diffusivity_interval95_cm2_per_s"] = np.percentile(samples, [2.5, 97.5]).tolist()
    if temperature_k is None or not trajectory.pbc.all():
        cautions.append("no conductivity: it needs a volume and a temperature (--temperature)")
        return told
    volume = float(np.abs(np.linalg.det(trajectory.cells)).mean())
    siemens = conductivity_s_per_cm(1.0, n_ions=n_ions, volume_ang3=volume, temperature_k=temperature_k, charge=charge)
    return told | {"conductivity_s_per_cm": siemens * value, "conductivity_error_s_per_cm": siemens * error}


def conductivity_s_per_cm(
    diffusivity_cm2_per_s: float, *, n_ions: int, volume_ang3: float, temperature_k: float, charge: float = 1.0
) -> float:
    """Conductivity of Nernst and Einstein in S/cm, of ions of a charge in elementary charges."""
    carriers = n_ions * charge**2 / (volume_ang3 * units.kB * temperature_k)
    return float(carriers * diffusivity_cm2_per_s / CM2_PER_S * S_PER_CM)


def fit_arrhenius(points: Sequence[tuple[float, float, float]]) -> dict[str, Any]:
    """Fit a straight line to ln D against 1/T, and extrapolate it.

    Args:
        points: temperatures in K, diffusivities and their standard errors in cm²/s; two temperatures at least.

    Returns:
        Named as in the JSON of ``qff analyse``. ``covariance`` is that of -Ea/kB in K and ln D0, widened where the
        points scatter by more than their errors.
    """
    temperatures, values, errors = np.array(points, dtype=np.float64).reshape(-1, 3).T
    if len(np.unique(temperatures)) < 2:
        raise DataError("an activation energy needs diffusivities at two temperatures at least.")
    weights, freedom = values / errors, len(values) - 2
    line, covariance = np.polyfit(1.0 / temperatures, np.log(values), 1, w=weights, cov="unscaled")
    residuals = weights * (np.log(values) - np.polyval(line, 1.0 / temperatures))
    chi_square = float((residuals**2).sum() / freedom) if freedom else float("nan")
    covariance *= max(1.0, chi_square if freedom else 1.0)
    found = {
        "activation_ev": float(-line[0] * units.kB),
        "activation_error_ev": float(np.sqrt(covariance[0, 0]) * units.kB),
        "prefactor_cm2_per_s": float(np.exp(line[1])),
        "reduced_chi_square": chi_square,
        "n_temperatures": len(values),
        "points": [tuple(point) for point in points],
        "covariance": covariance.tolist(),
        "extrapolated_k": EXTRAPOLATED_K,
    }
    value, spread = arrhenius_diffusivity(found, EXTRAPOLATED_K)
    interval = (value * np.exp(-spread), value * np.exp(spread))
    found |= {"extrapolated_cm2_per_s": value, "extrapolated_log_error": spread}
    return found | {"extrapolated_interval_cm2_per_s": interval}


def arrhenius_diffusivity(line: Mapping[str, Any], temperature_k: float) -> tuple[float, float]:
    """Diffusivity in cm²/s on a line of :func:`fit_arrhenius`, and the standard error of its logarithm."""
    at = np.array([1.0 / temperature_k, 1.0])
    value = line["prefactor_cm2_per_s"] * np.exp(-line["activation_ev"] / (units.kB * temperature_k))
    return float(value), float(np.sqrt(at @ np.array(line["covariance"]) @ at))


def activation(results: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any] | None, list[str]]:
    """The Arrhenius line of the trajectories that show diffusion, None without enough temperatures; and cautions.

    Args:
        results: numbers of each trajectory, and its name, as in the JSON of ``qff analyse``.
    """
    points, cautions = [], []
    for one in results:
        point = [one[key] for key in ("temperature_k", "diffusivity_cm2_per_s", "diffusivity_error_cm2_per_s")]
        if None in point:
            cautions.append(
                f"{one['name']} is left out of the Arrhenius line: no diffusion, or no temperature (--temperature)"
            )
        else:
            points.append((point[0], point[1], point[2]))
    try:
        return fit_arrhenius(points), cautions
    except DataError as error:
        return None, [*cautions, f"no activation energy: {error}"]


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
    """Posterior samples of the tracer diffusivity in cm²/s, and the intercept of its line in Å², by kinisi."""
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
    return found.D.values / spacing_ps, float(found.intercept.values.mean())
