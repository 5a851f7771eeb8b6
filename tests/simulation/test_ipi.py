"""Over i-PI's protocol: ASE as the simulation that asks, and i-PI itself where it is installed (extra ``ipi``)."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.socketio import SocketIOCalculator
from ase.io import write
from ase.stress import voigt_6_to_full_3x3_stress

import pyg_schnet.simulation
from pyg_schnet import save
from pyg_schnet.models import Committee
from pyg_schnet.simulation.ase import SchNetCalculator
from pyg_schnet.simulation.atomic_units import AtomicUnits
from pyg_schnet.simulation.replicas import ReplicaPotential
from pyg_schnet.simulation.sockets import SocketClient
from pyg_schnet.units import BOHR, HARTREE

DRIVER = Path(pyg_schnet.simulation.__file__).with_name("ipi.py")
#: The command, without Lightning, which takes seconds to import.
CODE = "import sys; from pyg_schnet.command.serve import serve; serve(*sys.argv[1:3], unix=sys.argv[3], wait=60.0)"
SERVE = [sys.executable, "-c", CODE]


@pytest.fixture
def name(tmp_path):
    """Name of a socket that nobody else has."""
    return f"schnet_{os.getpid()}_{tmp_path.name}"


@pytest.fixture
def files(make_model, tmp_path):
    """A model of a molecule, which it holds at 300 K, and the molecule."""
    save(make_model(), tmp_path / "model.safetensors")
    write(tmp_path / "molecule.xyz", molecule("H2O", vacuum=4.0))
    return tmp_path


def crystal():
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.mark.parametrize("port", [False, True])
def test_ase_asks_over_a_socket(make_model, name, port):
    model = make_model()
    for atoms in (molecule("CH3CH2OH", vacuum=4.0), crystal()):
        atoms.pbc = [atoms.get_chemical_formula() == "Si8"] * 3
        if port:
            with socket.socket() as free:
                free.bind(("localhost", 0))
                number = free.getsockname()[1]
        where = {"port": number} if port else {"unixsocket": name}
        evaluate = AtomicUnits(ReplicaPotential(model, atoms.numbers, atoms.pbc))
        client = SocketClient(evaluate, ("localhost", number) if port else f"/tmp/ipi_{name}", wait=3.0)
        counts: list[int] = []
        thread = threading.Thread(target=lambda: counts.extend(client), daemon=True)  # noqa: B023  ended in this round
        thread.start()
        with SocketIOCalculator(**where, timeout=60.0) as asking:
            own = SchNetCalculator(model)
            for step in range(3):  # places and cells change
                atoms.rattle(0.02, seed=step)
                atoms.set_cell(atoms.cell.array * [[1.01], [1.0], [0.99]], scale_atoms=True)
                asking.calculate(atoms, ["energy", "forces", "stress"], ["positions", "cell"])
                np.testing.assert_allclose(asking.results["energy"], own.get_potential_energy(atoms), rtol=1e-9)
                np.testing.assert_allclose(asking.results["forces"], own.get_forces(atoms), atol=1e-9)
                if atoms.pbc.any():
                    np.testing.assert_allclose(asking.results["stress"], own.get_stress(atoms), atol=1e-9)
        thread.join(20)
        assert not thread.is_alive()
        assert counts == [1, 1, 1]
        assert not client.farewell


class Simulation:
    """What listens: the least of a simulation."""

    def __init__(self, path: str) -> None:
        Path(path).unlink(missing_ok=True)
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(path)
        self.listening.listen()
        self.listening.settimeout(30)
        self.path = path

    def accept(self):
        connection, _ = self.listening.accept()
        connection.settimeout(30)
        return connection

    def close(self):
        self.listening.close()
        Path(self.path).unlink()

    @staticmethod
    def tell(connection, word, *arrays):
        connection.sendall(word.ljust(12).encode() + b"".join(array.tobytes() for array in arrays))

    @staticmethod
    def hear(connection, count, kind):
        data = b""
        while len(data) < count * np.dtype(kind).itemsize:
            part = connection.recv(count * np.dtype(kind).itemsize - len(data))
            assert part, "the client is gone"
            data += part
        return np.frombuffer(data, kind)

    def word(self, connection):
        return self.hear(connection, 12, "S1").tobytes().decode().strip()


@pytest.fixture
def simulation(name):
    simulation = Simulation(f"/tmp/ipi_{name}")
    yield simulation
    simulation.close()


def asked(simulation, connection, positions, cells):
    """Energies, forces, virials and texts of a batch, asked for as i-PI does."""
    count, atoms = positions.shape[:2]
    simulation.tell(connection, "STATUS")
    assert simulation.word(connection) == "READY"
    both = np.concatenate([np.concatenate([cell.ravel(), np.linalg.inv(cell).ravel()]) for cell in cells])
    if count == 1:
        simulation.tell(connection, "POSDATA", both, np.int32(atoms), positions)
    else:
        simulation.tell(connection, "POSDATA", np.int32(atoms), both, positions)
    simulation.tell(connection, "STATUS")
    assert simulation.word(connection) == "HAVEDATA"
    simulation.tell(connection, "GETFORCE")
    assert simulation.word(connection) == "FORCEREADY"
    energies = simulation.hear(connection, count, np.float64)
    assert simulation.hear(connection, 1, np.int32) == atoms
    forces = simulation.hear(connection, positions.size, np.float64).reshape(positions.shape)
    virials = simulation.hear(connection, 9 * count, np.float64).reshape(count, 3, 3)
    texts = []
    for _ in range(count):
        (length,) = simulation.hear(connection, 1, np.int32)
        texts.append(simulation.hear(connection, int(length), "S1").tobytes().decode())
    return energies, forces, virials, texts


def initialise(simulation, connection, text):
    simulation.tell(connection, "STATUS")
    assert simulation.word(connection) == "NEEDINIT"
    simulation.tell(connection, "INIT", np.int32(0), np.int32(len(text)), np.frombuffer(text.encode(), "S1"))


def test_beads_in_batches_a_broken_connection_and_members(make_model, simulation):
    models = [make_model(), make_model()]
    atoms = crystal()
    single = AtomicUnits(ReplicaPotential(models[0], atoms.numbers, True))
    client = SocketClient(AtomicUnits(ReplicaPotential(Committee(models), atoms.numbers, True)), simulation.path, 20.0)
    counts: list[int] = []
    thread = threading.Thread(target=lambda: counts.extend(client), daemon=True)
    thread.start()
    positions = np.stack([atoms.positions + 0.01 * number * np.sin(atoms.positions) for number in range(3)]) / BOHR
    cells = np.stack([(1 + 0.01 * number) * atoms.cell.array.T / BOHR for number in range(3)])
    cells[:, 0, 1] += 0.3  # a column is a vector
    with simulation.accept() as connection:
        initialise(simulation, connection, "driver:x, batch_size:3")
        energies, forces, virials, texts = asked(simulation, connection, positions, cells)
    with simulation.accept() as connection:  # it comes back by itself
        initialise(simulation, connection, "")
        again = asked(simulation, connection, positions[1:2], cells[1:2])
        simulation.tell(connection, "EXIT")
    thread.join(20)
    assert not thread.is_alive()
    assert counts == [3, 1]
    assert client.farewell
    assert client.losses == 1
    for whole, one in zip((energies, forces, virials), again, strict=False):
        np.testing.assert_allclose(whole[1], one[0], rtol=1e-9, atol=1e-11)
    one = atoms.copy()
    one.positions, one.cell[:] = positions[1] * BOHR, cells[1].T * BOHR
    every = [SchNetCalculator(model) for model in models]
    energy = [calculator.get_potential_energy(one) / HARTREE for calculator in every]
    members = json.loads(texts[1])
    np.testing.assert_allclose(members["committee_pot"], energy, rtol=1e-9)
    assert energies[1] == pytest.approx(np.mean(energy), rel=1e-9)
    for member, calculator in enumerate(every):
        force = calculator.get_forces(one) * BOHR / HARTREE
        np.testing.assert_allclose(np.reshape(members["committee_force"][member], (-1, 3)), force, atol=1e-9)
        stress = voigt_6_to_full_3x3_stress(calculator.get_stress(one))
        virial = -one.get_volume() * stress / HARTREE
        np.testing.assert_allclose(np.reshape(members["committee_virial"][member], (3, 3)), virial, atol=1e-9)
    assert single(list(cells), list(positions))[0][3] == ""


def test_a_command_that_is_killed_and_started_again(files, simulation, name):
    positions, cells = molecule("H2O").positions[None] / BOHR, 20 * np.eye(3)[None]
    simulation.listening.settimeout(60)
    found = []
    for ending in (signal.SIGKILL, None):
        with subprocess.Popen(
            [*SERVE, "model.safetensors", "molecule.xyz", name], cwd=files, stdout=subprocess.PIPE, text=True
        ) as serving:
            with simulation.accept() as connection:
                initialise(simulation, connection, "")
                found.append(asked(simulation, connection, positions, cells))
                if ending is None:
                    simulation.tell(connection, "EXIT")
                else:
                    serving.send_signal(ending)
                    serving.wait(30)
            said = serving.communicate(timeout=60)[0]
    assert said == "the simulation has ended; 1 structures evaluated\n"
    np.testing.assert_array_equal(found[0][1], found[1][1])
    forces = SchNetCalculator(files / "model.safetensors").get_forces(molecule("H2O"))
    np.testing.assert_allclose(found[1][1][0], forces * BOHR / HARTREE, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--unix", "{name}", "--wait", "0"], "nobody listens at /tmp/ipi_{name}: start the simulation first"),
        (["--port", "1", "--wait", "0"], "nobody listens at port 1 of localhost: start the simulation first"),
        ([], "name the socket where the simulation listens: either --unix NAME or --port NUMBER"),
        (["--unix", "a", "--index", "3"], "molecule.xyz holds 1 structures, there is none with the number 3"),
        (["--unix", "a", "--dtype", "int8"], "--dtype must be float32 or float64, got int8"),
    ],
)
def test_what_the_command_says(files, name, options, said, monkeypatch):
    from pyg_schnet.command import main

    pytest.importorskip("lightning")
    monkeypatch.chdir(files)
    with pytest.raises(SystemExit) as ended:
        main(["serve", "model.safetensors", "molecule.xyz", *(option.format(name=name) for option in options)])
    assert str(ended.value).startswith(f"pyg-schnet: {said.format(name=name)}")
    assert "\n" not in str(ended.value)


def test_what_a_simulation_says_wrong(make_model, simulation):
    client = SocketClient(AtomicUnits(ReplicaPotential(make_model(), [8, 1, 1])), simulation.path, 5.0)
    said = []

    def run():
        try:
            list(client)
        except (ValueError, ConnectionError) as error:
            said.append(str(error))

    for message in ((b"POSDATA".ljust(12), np.zeros(18), np.int32(4)), (b"HELLO".ljust(12),)):
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        with simulation.accept() as connection:
            connection.sendall(b"".join(bytes(part) if isinstance(part, bytes) else part.tobytes() for part in message))
            thread.join(20)
    assert said[0] == "the simulation has 4 atoms, the structure that was named 3; name its own"
    assert said[1] == "the simulation does not speak i-PI's protocol, it said 'HELLO'"


#: What the command i-pi does.
RUN = """
from ipi.engine.simulation import Simulation
from ipi.utils.softexit import softexit
simulation = Simulation.load_from_xml(open('input.xml'))
simulation.run()
if "ffsocket" in open('input.xml').read():
    softexit.trigger(status="success", message="done")
"""
XML = """<simulation verbosity='low'>
<output prefix='out'>
  <properties stride='1' filename='log'> [step, potential{{electronvolt}}, kinetic_cv{{electronvolt}}] </properties>
  <trajectory stride='1' filename='pos' format='xyz' cell_units='angstrom'> positions{{angstrom}} </trajectory>
  <trajectory stride='1' filename='for' format='xyz'> forces{{ev/ang}} </trajectory>
  {extras}
</output>
<total_steps>{steps}</total_steps><prng><seed>1</seed></prng>
{forcefield}
<system>
  <initialize nbeads='{beads}'><file mode='xyz'>start.xyz</file>
    <velocities mode='thermal' units='kelvin'>300</velocities></initialize>
  <forces><force forcefield='ff'></force></forces>
  <motion mode='dynamics'><dynamics mode='nvt'><timestep units='femtosecond'>0.5</timestep>
    <thermostat mode='pile_g'><tau units='femtosecond'>100</tau></thermostat></dynamics></motion>
  <ensemble><temperature units='kelvin'>300</temperature></ensemble>
</system></simulation>"""
DIRECT = """<ffdirect name='{name}' pbc='false' threaded='False'><pes>custom</pes><pes_path>{path}</pes_path>
<batch_size>{batch}</batch_size><parameters>{{template: molecule.xyz, model: {model}}}</parameters>
<latency>0</latency></ffdirect>"""


def start_file(folder):
    atoms = molecule("H2O")
    lines = [
        f"{symbol} {x:.8f} {y:.8f} {z:.8f}" for symbol, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
    ]
    head = "# CELL(abcABC): 20 20 20 90 90 90 cell{angstrom} positions{angstrom}"
    (folder / "start.xyz").write_text("\n".join([str(len(atoms)), head, *lines]) + "\n")


def run_ipi(folder, **parts):
    start_file(folder)
    (folder / "input.xml").write_text(XML.format(**{"extras": "", "steps": 3, "beads": 1} | parts))
    done = subprocess.run([sys.executable, "-c", RUN], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return np.loadtxt(folder / "out.log", ndmin=2)


def frames(folder, what, bead):
    lines = (folder / f"out.{what}_{bead}.xyz").read_text().splitlines()
    rows = [line.split()[1:] for line in lines if len(line.split()) == 4 and line.split()[0] in {"H", "O"}]
    return np.array(rows, dtype=float).reshape(-1, 3, 3)


def check_beads(folder, log):
    """Energies and forces of all beads are those of the calculator of ASE."""
    assert len(log) == 4
    atoms, energies = molecule("H2O"), []
    atoms.calc = SchNetCalculator(folder / "model.safetensors")
    for bead in range(4):
        places, forces = frames(folder, "pos", bead), frames(folder, "for", bead)
        for place, force in zip(places, forces, strict=True):
            atoms.positions = place
            energies.append(atoms.get_potential_energy())
            np.testing.assert_allclose(force, atoms.get_forces(), rtol=1e-6, atol=1e-6)
    energies = np.reshape(energies, (4, 4)).mean(0)  # over the beads
    np.testing.assert_allclose(log[:, 1], energies, rtol=1e-6)
    assert np.ptp(log[:, 1]) > 1e-5


def test_ipi_takes_this_file(files):
    pytest.importorskip("ipi", reason="i-PI is not installed (extra ipi)")
    direct = DIRECT.format(name="ff", path=DRIVER, batch=4, model="model.safetensors")
    check_beads(files, run_ipi(files, beads=4, forcefield=direct))


def test_ipi_has_the_spread_of_a_committee(files, make_model):
    pytest.importorskip("ipi", reason="i-PI is not installed (extra ipi)")
    committee = Committee([make_model(), make_model()])
    committee.save(files / "committee")
    direct = DIRECT.format(name="inner", path=DRIVER, batch=1, model="committee")
    extras = "<trajectory stride='1' filename='spread' extra_type='committee_pot'> extras </trajectory>"
    whole = f"<ffcommittee name='ff'> {direct} <parse_json> True </parse_json> </ffcommittee>"
    log = run_ipi(files, forcefield=whole, extras=extras)
    found = np.loadtxt(files / "out.spread_0", comments="#", ndmin=2)
    assert found.shape == (4, 2)
    np.testing.assert_allclose(found.mean(1) * HARTREE, log[:, 1], rtol=1e-6)
    atoms = molecule("H2O")
    atoms.positions = frames(files, "pos", 0)[-1]
    each = [SchNetCalculator(member).get_potential_energy(atoms) for member in committee]
    np.testing.assert_allclose(found[-1] * HARTREE, each, rtol=1e-6)


def test_ipi_over_a_socket(files, name):
    pytest.importorskip("ipi", reason="i-PI is not installed (extra ipi)")
    command = [*SERVE, "model.safetensors", "molecule.xyz", name]
    with subprocess.Popen(command, cwd=files, stdout=subprocess.PIPE, text=True) as serving:
        forcefield = (
            f"<ffsocket name='ff' mode='unix' pbc='false'><address>{name}</address><latency>1e-4</latency>"
            "<batch_size>4</batch_size></ffsocket>"
        )
        log = run_ipi(files, beads=4, forcefield=forcefield)
        said = serving.communicate(timeout=60)[0]
    assert said.startswith("the simulation has ended; 16 structures evaluated")
    check_beads(files, log)


def test_what_the_driver_refuses(files, monkeypatch):
    pytest.importorskip("ipi", reason="i-PI is not installed (extra ipi)")
    from pyg_schnet.simulation.ipi import SchNetDriver

    monkeypatch.chdir(files)
    with pytest.raises(FileNotFoundError, match=r"there is no file other\.xyz"):
        SchNetDriver("other.xyz", "model.safetensors")
    with pytest.raises(TypeError, match="no parameter 'modle'; expected template, model"):
        SchNetDriver("molecule.xyz", "model.safetensors", modle="x")
    with pytest.raises(ValueError, match="`dtype` must be"):
        SchNetDriver("molecule.xyz", "model.safetensors", dtype="int8")


def test_numbers_of_the_driver(files, make_model, monkeypatch):
    """Those of the model, unless others are asked for: then forces differ by what they can hold."""
    pytest.importorskip("ipi", reason="i-PI is not installed (extra ipi)")
    from pyg_schnet.simulation.ipi import SchNetDriver

    monkeypatch.chdir(files)
    save(make_model().float(), "single.safetensors")
    atoms = molecule("H2O", vacuum=4.0)
    for name, other in (("model", "float32"), ("single", "float64")):
        drivers = [SchNetDriver("molecule.xyz", f"{name}.safetensors", dtype=dtype) for dtype in (None, other)]
        own, asked = (one.compute(atoms.cell.array.T / BOHR, atoms.positions / BOHR)[1] for one in drivers)
        assert 1e-9 < np.abs(asked - own).max() / np.abs(own).max() < 1e-4
