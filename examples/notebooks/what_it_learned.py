"""
What SchNet learned of molecules
================================

A network that was trained on energies of molecules alone has an opinion about every place in space and about every
atom. This is how the papers look at it: the local chemical potential, and the filters.
"""

# %%
# The model
# ---------
# It comes with the package: SchNet of 11,000 molecules of QM9. What it is good for, and what not, is in its card.
import matplotlib.pyplot as plt

from pyg_schnet import load
from pyg_schnet.datasets import from_smiles

model = load("qm9-schnet")
print(model)

# %%
# What a carbon atom would feel
# -----------------------------
# A probe atom at a place **r** that sees all others but is not seen by them: its energy as a function of **r** is the
# local chemical potential of figure 5 of the second paper. On a surface around benzene the ring shows.
from pyg_schnet.analysis import draw_potential_surface, potential_surface

benzene = from_smiles("c1ccccc1")
surface = potential_surface(model, benzene, spacing=0.25)
print(f"from {surface.values.min():.2f} to {surface.values.max():.2f} eV on {len(surface.values):,} points")
figure = plt.figure(figsize=(5, 4))
draw_potential_surface(surface, figure.add_subplot(projection="3d"))

# %%
# The same in a plane through the ring, as numbers to work with.
from pyg_schnet.analysis import draw_potential_cut, potential_cut

cut = potential_cut(model, benzene, resolution=0.15)
figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
draw_potential_cut(cut, axes)

# %%
# What each atom is worth
# -----------------------
# The energy is a sum over atoms. It was never told how to share it out, so contributions are the network's own way of
# counting; what they add up to is what was learned.
from pyg_schnet.analysis import draw_decomposition, energy_decomposition

acetamide = from_smiles("CC(N)=O")
shares = energy_decomposition(model, acetamide)
figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
draw_decomposition(shares, acetamide, axes)
print(f"sum of contributions {shares.total:.4f} {shares.unit}, prediction {shares.prediction:.4f} {shares.unit}")

# %%
# Filters
# -------
# A continuous filter is a function of the distance, one for each feature. In space, around an atom, it is a pattern of
# shells; the figure shows some of the first block.
from pyg_schnet.analysis import filter_curves

curves = filter_curves(model, [0.05 * k for k in range(20, 161)])
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.plot(curves.distances, curves.values[0][:, :12], linewidth=1)
axes.set(xlabel="distance (Å)", ylabel="filter", title="twelve filters of the first block")
