"""
A force field of ethanol
========================

Learn energies and forces of one molecule from bundled frames, see how wrong they are on frames that were not seen, and
run molecular dynamics with them. Half a minute of training is enough to see how it goes; ``make demo`` trains longer.
"""

# %%
# Data
# ----
# The package brings 2,000 frames of ethanol at 500 K, labelled with GFN2-xTB: energies in eV, forces in eV/Å. Your own
# frames are read by :class:`pyg_schnet.datasets.Trajectory`, and look the same afterwards.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from pyg_schnet import SchNet
from pyg_schnet.datasets import MD17, random_split
from pyg_schnet.simulation import data_to_atoms

torch.manual_seed(0)
folder = Path(tempfile.mkdtemp())
dataset = MD17(folder / "data", "ethanol_xtb")
print(dataset, dataset[0], sep="\n")

# %%
# A random split is right for frames of one molecule; :func:`~pyg_schnet.datasets.block_split` keeps neighbours in time
# together, :func:`~pyg_schnet.datasets.group_split` whole molecules.
from pyg_schnet.training import PotentialTask, SplitDataModule, fit

split = random_split(dataset, 1000, 200, 500)
data = SplitDataModule(dataset, split, batch_size=32)

# %%
# Model and training
# ------------------
# The network of the paper for MD17, with filters in tables, and a recipe for minutes instead of days: a larger learning
# rate that falls to zero on a cosine within the time of the run.
model = SchNet.preset("jcp2018", num_interactions=3, filters="auto")
task = PotentialTask(model, rho=0.01, learning_rate=4e-3, schedule="cosine", warmup_steps=50)
result = fit(
    task, data, folder / "run", max_steps=400, validate_every=100, accelerator="cpu", enable_progress_bar=False
)
print(f"{result.steps} steps, {result.model.name} from step {result.best_step}")

# %%
# Errors
# ------
# On 500 frames that were neither trained nor validated on.
from pyg_schnet import load
from pyg_schnet.analysis import error_summary, predict

learned = load(result.model)
found = predict(learned, data.part("test"), progress=False)
print({name: round(value, 3) for name, value in error_summary(found, "kcal/mol").items()})

figure, panels = plt.subplots(ncols=2, figsize=(8, 4), layout="constrained")
middle = found.energy_target.mean()
panels[0].plot(found.energy_target - middle, found.energy - middle, ".", markersize=3)
panels[0].set(xlabel="true energy (eV), less the mean", ylabel="predicted energy (eV)")
panels[1].plot(found.forces_target.ravel(), found.forces.ravel(), ".", markersize=2)
panels[1].set(xlabel="true force component (eV/Å)", ylabel="predicted force component (eV/Å)")
for panel in panels:
    panel.axline((0, 0), slope=1, color="black", linewidth=0.5)

# %%
# Molecular dynamics
# ------------------
# Any engine takes the model: ASE, TorchSim, i-PI, OpenMM, LAMMPS. The package's own dynamics do some ten thousand steps
# a second for a molecule of this size. At constant energy the total energy stays where it is, however wrong the
# potential is: forces are exact derivatives.
from pyg_schnet.simulation import Dynamics

start = data_to_atoms(dataset[0])
dynamics = Dynamics(learned, start, temperature=300, friction=0, timestep=0.5)
record = dynamics.run(4000, interval=10, progress=False)

figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
first = record.total[0, 0]
for name, energy in (("potential", record.potential), ("kinetic", record.kinetic), ("total", record.total)):
    axes.plot(record.time / 1000, energy[:, 0] - (0 if name == "kinetic" else first), label=name)
axes.set(xlabel="time (ps)", ylabel="energy (eV), less the first total")
axes.legend(loc="upper right", ncols=3)
drift = (record.total[-1, 0] - first) / len(start) * 1000 / (record.time[-1] / 1000)
print(f"{dynamics.way} loops, drift {drift:+.4f} meV/atom/ps")
