"""The force field as a client of i-PI: another program moves the atoms, this one sends energies and forces.

The protocol is i-PI's, as ASE speaks it: positions and cell come in over a TCP or UNIX socket, energy, forces and
virial go back. The server may be i-PI itself (path integrals, thermostats, replica exchange), ASE's
``SocketIOCalculator``, or any other program that speaks it.
"""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ase import Atoms
from ase.calculators.socketio import IPIProtocol, SocketClient, actualunixsocketname
from ase.parallel import world

from qiskit_qff.errors import BackendError, DataError

PORT = 31415
"""That i-PI and ASE listen to, unless told otherwise."""


@dataclass(frozen=True)
class Address:
    """Where the server listens."""

    host: str = "localhost"
    """Its name, for TCP."""
    port: int = PORT
    """Its port, for TCP."""
    unix: str | None = None
    """Name of a UNIX socket instead: the file is /tmp/ipi_NAME."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.unix is None else actualunixsocketname(self.unix)


@dataclass(frozen=True)
class Served:
    """What a client has done."""

    evaluations: int
    """Structures evaluated."""
    seconds: float
    """Time from the first to the end of the last, waiting for the server included."""


def serve(
    atoms: Atoms,
    address: Address,
    *,
    patience: float = 60.0,
    progress: Callable[[int], None] | None = None,
) -> Served:
    """Evaluate what a server sends until it says that it is done, or hangs up.

    Args:
        atoms: Elements and periods, in the server's order of atoms, with a calculator; positions and cell come from the
            server.
        address: Where the server listens.
        patience: Seconds to wait for a server that does not listen yet.
        progress: Called with the number of structures evaluated.

    Raises:
        BackendError: If no server listens, or it sends what is not the protocol.
        DataError: If it sends another number of atoms, or a structure that can't be evaluated.
    """
    client = _connect(address, patience, n_atoms=len(atoms))
    count, began = 0, time.perf_counter()
    try:
        for _ in client.irun(atoms, use_stress=bool(atoms.pbc.all())):
            count += 1
            if progress is not None:
                progress(count)
    except (ConnectionError, BrokenPipeError):
        pass  # the server has gone without a word, as some do
    except (AssertionError, KeyError, UnicodeDecodeError, ValueError) as error:
        raise BackendError(f"the server at {address} does not speak i-PI's protocol ({error!r}).") from error
    return Served(count, time.perf_counter() - began)


class _Protocol(IPIProtocol):
    """i-PI's protocol with a server that has the same atoms."""

    def __init__(self, connection: socket.socket, address: Address, *, n_atoms: int) -> None:
        super().__init__(connection)
        self._address, self._n_atoms = address, n_atoms

    def recvposdata(self) -> Any:
        """Cell, its inverse and positions.

        Raises:
            DataError: If there is another number of positions.
        """
        received = super().recvposdata()
        if len(received[2]) != self._n_atoms:
            raise DataError(
                f"the server at {self._address} sends {len(received[2])} atoms, the structure has {self._n_atoms}."
            )
        return received


def _connect(address: Address, patience: float, *, n_atoms: int) -> SocketClient:
    """A client that has found its server.

    Raises:
        BackendError: If nobody listens.
    """
    end = time.monotonic() + patience
    while True:
        try:
            return _client(address, n_atoms=n_atoms)
        except OSError as error:
            if time.monotonic() >= end:
                raise BackendError(
                    f"no server listens at {address} ({error.strerror or error}); start it first, for example "
                    "'i-pi input.xml', or wait longer with --wait."
                ) from error
            time.sleep(0.1)


def _client(address: Address, *, n_atoms: int) -> SocketClient:
    """ASE's client on a connection of ours: its own constructor leaks a socket where nobody listens."""
    connection = socket.socket(socket.AF_INET if address.unix is None else socket.AF_UNIX)
    try:
        connection.connect((address.host, address.port) if address.unix is None else str(address))
    except OSError:
        connection.close()
        raise
    client = SocketClient.__new__(SocketClient)
    protocol = _Protocol(connection, address, n_atoms=n_atoms)
    client.comm, client.protocol, client.closed, client.state = world, protocol, False, "READY"
    client.log = protocol.log
    return client
