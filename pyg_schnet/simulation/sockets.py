"""The client's side of i-PI's socket protocol, which ASE and LAMMPS speak, too.

The simulation listens; whoever evaluates connects to it, says what it is ready for, gets cells and positions, and sends
energies, forces and virials back, all in atomic units.
"""

import socket
import time
from collections.abc import Iterator

import numpy as np
from numpy import ndarray

from pyg_schnet.simulation.atomic_units import AtomicUnits, Result

_HEADER = 12
#: Seconds between two attempts to connect.
_PAUSE = 0.2


class SocketClient:
    """Evaluates for a simulation until that says it has ended, and connects again if the connection is lost.

    Args:
        evaluate: The potential of the structure in atomic units.
        address: Path of a Unix socket, or host and port.
        wait: How long to try to connect, at the beginning and again after each loss, in seconds.

    Example:
        >>> from pyg_schnet import SchNet
        >>> from pyg_schnet.simulation.replicas import ReplicaPotential
        >>> water = ReplicaPotential(SchNet.preset("jcp2018"), [8, 1, 1])
        >>> for done in SocketClient(AtomicUnits(water), "/tmp/ipi_nobody", wait=0.0):
        ...     print(done)
        Traceback (most recent call last):
        ...
        ConnectionError: nobody listens at /tmp/ipi_nobody: start the simulation first, or wait longer than 0 s
    """

    def __init__(self, evaluate: AtomicUnits, address: str | tuple[str, int], wait: float = 30.0) -> None:
        self.evaluate, self.address, self.wait = evaluate, address, wait
        #: How often a connection was lost.
        self.losses = 0
        #: True if the simulation said that it has ended; ASE's never does, it hangs up.
        self.farewell = False

    def __iter__(self) -> Iterator[int]:
        """Serve the simulation.

        Yields:
            After each request that was answered, how many structures were evaluated for it.

        Raises:
            ConnectionError: If nobody listens at all.
            ValueError: If the simulation has another number of atoms, or its positions or cells are impossible.
        """
        served = False
        while (connection := self._connected()) is not None:
            with connection:
                try:
                    for count in _Conversation(connection, self.evaluate):
                        served = True
                        yield count
                    self.farewell = True
                    return
                except _LostError:
                    self.losses += 1
                    time.sleep(_PAUSE)
        if not served:
            raise ConnectionError(
                f"nobody listens at {self.where}: start the simulation first, or wait longer than {self.wait:g} s"
            )

    @property
    def where(self) -> str:
        """The address in words."""
        return self.address if isinstance(self.address, str) else f"port {self.address[1]} of {self.address[0]}"

    def _connected(self) -> socket.socket | None:
        """A connection, if somebody listens before the time is over."""
        until = time.monotonic() + self.wait
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        while True:
            connection = socket.socket(family, socket.SOCK_STREAM)
            connection.settimeout(max(self.wait, 1.0))
            try:
                connection.connect(self.address)
            except OSError:
                connection.close()
                if time.monotonic() >= until:
                    return None
                time.sleep(_PAUSE)
                continue
            if family == socket.AF_INET:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(None)  # simulations may think for as long as they like
            return connection


class _LostError(Exception):
    """The connection broke without a farewell."""


class _Conversation:
    """What is said over one connection, until the simulation says it has ended."""

    def __init__(self, connection: socket.socket, evaluate: AtomicUnits) -> None:
        self._connection, self._evaluate = connection, evaluate
        self._replicas, self._initialised = 1, False
        self._results: list[Result] | None = None

    def __iter__(self) -> Iterator[int]:
        while (header := self._received(_HEADER).decode("ascii", "replace").strip()) != "EXIT":
            if header == "STATUS":
                ready = "HAVEDATA" if self._results is not None else "READY"
                self._send(_message(ready if self._initialised else "NEEDINIT"))
            elif header == "INIT":
                self._initialise()
            elif header == "POSDATA":
                self._results = self._evaluated()
                yield self._replicas
            elif header == "GETFORCE" and self._results is not None:
                self._send(_message("FORCEREADY") + self._packed(self._results))
                self._results = None
            else:
                raise ConnectionError(f"the simulation does not speak i-PI's protocol, it said {header!r}")

    def _initialise(self) -> None:
        _, length = self._numbers(2, np.int32)
        words = self._received(int(length)).decode("utf-8", "replace").split(",")
        sizes = [value for name, _, value in (word.partition(":") for word in words) if name.strip() == "batch_size"]
        self._replicas = int(sizes[0]) if sizes else 1
        self._initialised = True

    def _evaluated(self) -> list[Result]:
        """Results of what comes now: a single structure, or as many as were announced, in another order."""
        count, atoms = self._replicas, len(self._evaluate.potential.numbers)
        cells = self._numbers(18) if count == 1 else np.empty(0)
        (number,) = self._numbers(1, np.int32)
        if number != atoms:
            raise ValueError(f"the simulation has {number} atoms, the structure that was named {atoms}; name its own")
        cells = cells if count == 1 else self._numbers(18 * count)
        positions = self._numbers(3 * atoms * count).reshape(count, atoms, 3)
        return self._evaluate(list(cells.reshape(count, 2, 3, 3)[:, 0]), list(positions))

    def _packed(self, results: list[Result]) -> bytes:
        energies, forces, virials, texts = zip(*results, strict=True)
        atoms = np.int32(len(forces[0])).tobytes()
        numbers = (
            np.array(energies, np.float64).tobytes() + atoms + np.stack(forces).tobytes() + np.stack(virials).tobytes()
        )
        return numbers + b"".join(np.int32(len(text)).tobytes() + text.encode("ascii") for text in texts)

    def _numbers(self, count: int, kind: type = np.float64) -> ndarray:
        array: ndarray = np.frombuffer(self._received(count * np.dtype(kind).itemsize), kind)
        return array

    def _received(self, length: int) -> bytes:
        found = bytearray()
        while len(found) < length:
            try:
                part = self._connection.recv(length - len(found))
            except ConnectionError as error:
                raise _LostError from error
            if not part:
                raise _LostError
            found += part
        return bytes(found)

    def _send(self, message: bytes) -> None:
        try:
            self._connection.sendall(message)
        except ConnectionError as error:
            raise _LostError from error


def _message(word: str) -> bytes:
    return word.ljust(_HEADER).encode("ascii")
