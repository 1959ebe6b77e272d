"""ASE's integrators behind one face: step, conserved quantity, and a state that can be saved and restored.

========  ===========  ==============================================  ====================================
ensemble  thermostat   integrator of ASE                               conserved quantity
========  ===========  ==============================================  ====================================
nve       -            ``VelocityVerlet``                              E
nvt       bussi        ``Bussi`` (stochastic velocity rescaling)       E minus the energy it transferred
nvt       langevin     ``LangevinBAOAB``                               E minus the heat of the bath
nvt       nose-hoover  ``NoseHooverChainNVT`` (chain of three)         E plus energy of the chain
npt       (chains)     ``IsotropicMTKNPT`` or ``MTKNPT`` (full cell)   E + PV plus energies of the chains
========  ===========  ==============================================  ====================================

All of them keep the centre of mass at rest and thermalise 3N - 3 degrees of freedom.

References:
    Bussi, Donadio, Parrinello, doi:10.1063/1.2408420; Leimkuhler, Matthews, doi:10.1063/1.4802990; Martyna,
    Klein, Tuckerman, doi:10.1063/1.463940; Martyna, Tobias, Klein, doi:10.1063/1.467468.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.bussi import Bussi
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.nose_hoover_chain import (
    MTKNPT,
    IsotropicMTKNPT,
    NoseHooverChainNVT,
    NoseHooverChainThermostat,
)
from ase.md.verlet import VelocityVerlet
from numpy.typing import NDArray

from qiskit_qff.errors import DataError
from qiskit_qff.simulation.settings import MDSettings
from qiskit_qff.simulation.velocities import degrees_of_freedom, kinetic_energy, without_drift

Array = NDArray[Any]

# The parts of an ASE integrator that carry state of their own.
_PARTS = ("_thermostat", "_barostat")
_RAMP_WORK = "ramp_work_ev"
# Of the parts and of the integrator itself, what is proportional to the temperature: masses, and momenta at constant
# velocity.
_THERMAL = ("_kT", "_temperature_K", "_Q", "_p_eta", "_W", "_R", "_p_xi", "_p_eps", "_p_g")


@dataclass
class Integrator:
    """One of ASE's integrators at work on one structure."""

    dynamics: Any
    """The integrator of ASE."""
    ramp_work_ev: float = 0.0
    """What changes of the thermostat's temperature have added to ASE's conserved quantity, in eV."""

    def step(self) -> None:
        """Advance by one time step."""
        self.dynamics.step()

    def conserved_energy(self) -> float:
        """The quantity in eV that an exact integration would conserve."""
        dynamics = self.dynamics
        if hasattr(dynamics, "get_conserved_energy"):
            return float(dynamics.get_conserved_energy()) - self.ramp_work_ev
        # transferred_energy: of Bussi's own; of the Langevin integrator below; absent at constant energy.
        return float(dynamics.atoms.get_total_energy() - getattr(dynamics, "transferred_energy", 0.0))

    def set_temperature(self, temperature_k: float) -> None:
        """Change the temperature of the thermostat and of the barostat.

        Nosé-Hoover chains keep their relaxation times: masses are proportional to the temperature, and velocities of
        chain and cell stay, so that friction does not jump. What their energies gain by that is no energy of the
        system, and is kept out of the conserved quantity.

        Args:
            temperature_k: in K.
        """
        dynamics = self.dynamics
        if hasattr(dynamics, "set_temperature"):
            dynamics.set_temperature(temperature_k)
        elif hasattr(dynamics, "target_kinetic_energy"):
            dynamics.target_kinetic_energy = 0.5 * units.kB * temperature_k * dynamics.ndof
        elif hasattr(dynamics, "_thermostat"):
            before = self.conserved_energy()
            _scale_chains(dynamics, temperature_k)
            self.ramp_work_ev += self.conserved_energy() - before

    def state(self) -> dict[str, Array]:
        """All numbers the integrator holds, by name."""
        held = {name: np.array(value) for name, _, _, value in _numbers_of(self.dynamics)}
        return held | {_RAMP_WORK: np.array(self.ramp_work_ev)}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Put back what :meth:`state` gave.

        Raises:
            DataError: if the numbers belong to another integrator (or another version of ASE).
        """
        # A checkpoint of an older version has no ramp.
        self.ramp_work_ev = float(state.get(_RAMP_WORK, 0.0))
        state = {name: value for name, value in state.items() if name != _RAMP_WORK}
        held = list(_numbers_of(self.dynamics))
        fits = {name: np.shape(value) for name, _, _, value in held}
        if fits != {name: value.shape for name, value in state.items()}:
            raise DataError(
                "the checkpoint's thermostat does not fit this version of ASE. Start the run anew in another "
                "directory, or use the version of ASE it was written with."
            )
        for name, owner, attribute, value in held:
            saved = state[name]
            setattr(owner, attribute, saved.copy() if isinstance(value, np.ndarray) else saved.item())


def build_integrator(atoms: Atoms, settings: MDSettings, *, rng: np.random.Generator) -> Integrator:
    """Set up the integrator of an ensemble.

    Args:
        atoms: with calculator and momenta.
        settings: what to run.
        rng: noise of the stochastic thermostats.
    """
    timestep = settings.timestep_fs * units.fs
    relaxation = settings.thermostat_time_fs * units.fs
    if settings.ensemble == "nve":
        return Integrator(VelocityVerlet(atoms, timestep))
    if settings.ensemble == "npt":
        return Integrator(_constant_pressure(atoms, settings))
    if settings.thermostat == "langevin":
        return Integrator(
            _LangevinAtRest(
                atoms,
                timestep,
                temperature_K=settings.temperature_k,
                T_tau=relaxation,
                hydrostatic=True,  # PERF: the cell is fixed; this only spares a matrix exponential a step
                rng=rng,
            )
        )
    if settings.thermostat == "bussi":
        dynamics = Bussi(atoms, timestep, settings.temperature_k, relaxation, rng=rng)
        dynamics.ndof = degrees_of_freedom(len(atoms))
        dynamics.target_kinetic_energy = 0.5 * units.kB * settings.temperature_k * dynamics.ndof
        return Integrator(dynamics)
    chain = NoseHooverChainNVT(atoms, timestep, settings.temperature_k, relaxation)
    return Integrator(_with_chain_at_rest(chain, settings))


class _LangevinAtRest(LangevinBAOAB):
    """BAOAB Langevin dynamics whose noise leaves the centre of mass at rest, and that counts the heat.

    Taking the drift out of the noisy momenta projects the Maxwell-Boltzmann distribution onto zero total
    momentum exactly: friction is the same for all atoms and the momenta's noise is independent.
    """

    transferred_energy = 0.0

    def __init__(self, atoms: Atoms, timestep: float, **options: Any) -> None:
        self.transferred_energy = 0.0
        super().__init__(atoms, timestep, **options)

    def _BAOAB_OU(self, drag_gamma_mod: float = 0.0) -> None:  # noqa: N802 (ASE's name)
        """The noise and friction of one step."""
        masses = self.masses[:, 0]
        before = kinetic_energy(self.atoms.get_momenta(), masses)
        super()._BAOAB_OU(drag_gamma_mod)
        momenta = without_drift(self.atoms.get_momenta(), masses)
        self.atoms.set_momenta(momenta)
        self.transferred_energy += kinetic_energy(momenta, masses) - before


def _constant_pressure(atoms: Atoms, settings: MDSettings) -> Any:
    """Martyna-Tobias-Klein dynamics, for the volume alone or for the whole cell.

    Raises:
        DataError: if the structure is not periodic in all directions.
    """
    if not atoms.pbc.all():
        raise DataError("npt needs a structure that is periodic in all three directions; use nvt or nve.")
    kind = IsotropicMTKNPT if settings.barostat == "isotropic" else MTKNPT
    dynamics = kind(
        atoms,
        settings.timestep_fs * units.fs,
        temperature_K=settings.temperature_k,
        pressure_au=settings.pressure_gpa * units.GPa,
        tdamp=settings.thermostat_time_fs * units.fs,
        pdamp=settings.barostat_time_fs * units.fs,
    )
    return _with_chain_at_rest(dynamics, settings)


def _with_chain_at_rest(dynamics: Any, settings: MDSettings) -> Any:
    """Let the Nosé-Hoover chain thermalise 3N - 3 degrees of freedom, as if there were one atom less.

    NOTE: ASE counts 3N although the total momentum is conserved at zero; the mean temperature of the moving
    degrees of freedom would then be N/(N - 1) times the wanted one, 1.2 % too high for 83 atoms.
    """
    dynamics._thermostat = NoseHooverChainThermostat(  # noqa: SLF001 (ASE offers no other way in)
        num_atoms_global=len(dynamics.atoms) - 1,
        masses=dynamics.masses,
        temperature_K=settings.temperature_k,
        tdamp=settings.thermostat_time_fs * units.fs,
    )
    return dynamics


def _scale_chains(dynamics: Any, temperature_k: float) -> None:
    """Bring Nosé-Hoover chains, and the barostat if there is one, to another temperature at constant velocities."""
    factor = units.kB * temperature_k / dynamics._thermostat._kT  # noqa: SLF001 (ASE offers no other way in)
    for owner in (dynamics, *(getattr(dynamics, part) for part in _PARTS if hasattr(dynamics, part))):
        for name in _THERMAL:
            if hasattr(owner, name):
                setattr(owner, name, getattr(owner, name) * factor)


def _numbers_of(dynamics: Any) -> Iterator[tuple[str, Any, str, Any]]:
    """Name, owner, attribute and value of every number or array the integrator and its parts hold.

    NOTE: ASE has no interface for the state of its integrators, so all their numbers are taken, constants
    too.
    """
    owners = [("", dynamics)]
    owners += [(f"{part}.", getattr(dynamics, part)) for part in _PARTS if hasattr(dynamics, part)]
    for prefix, owner in owners:
        for attribute, value in sorted(vars(owner).items()):
            is_number = isinstance(value, (int, float, np.floating, np.integer))
            if (is_number and not isinstance(value, bool)) or isinstance(value, np.ndarray):
                yield f"{prefix}{attribute}", owner, attribute, value
