"""
Crystals
========

Periodic images are neighbours as any others: exact graphs of crystals, a model of formation energies that comes with
the package, and what it learned about the elements.
"""

# %%
# Graphs
# ------
# Every image within the cutoff is an edge, also of an atom to its own images in a small cell.
import matplotlib.pyplot as plt
import torch
from ase.build import bulk

from pyg_schnet import load, radius_graph
from pyg_schnet.simulation import atoms_to_data

salt = atoms_to_data(bulk("NaCl", "rocksalt", a=5.64))
graph = radius_graph(salt.pos, 5.0, cell=salt.cell, pbc=salt.pbc)
source, target = graph.edge_index
lengths = (salt.pos[source] - salt.pos[target] + graph.edge_shift.to(salt.pos.dtype) @ salt.cell[0]).norm(dim=1)
print(f"{len(salt.z)} atoms, {len(lengths)} edges, the shortest {lengths.min():.2f} Å")
print("neighbours", graph.rowptr.diff().tolist())

# %%
# Formation energies
# ------------------
# SchNet of 27,000 crystals of the Materials Project predicts formation energies per atom; its mean error on crystals
# that it has not seen is given in its card. Cells of any size give the same.
model = load("materials-formation-energy")
for name, a in (("NaCl", 5.64), ("MgO", 4.21), ("LiF", 4.03), ("CaO", 4.81), ("KBr", 6.60)):
    atoms = bulk(name, "rocksalt", a=a)
    with torch.no_grad():
        small, large = (float(model(atoms_to_data(one))) for one in (atoms, atoms.repeat(2)))
    print(f"{name:5} {small:7.3f} eV/atom, in a supercell of 8: {large:7.3f}")

# %%
# Crystals of many kinds are predicted in one batch, as PyG does it.
from torch_geometric.data import Batch

structures = [atoms_to_data(bulk("NaCl", "rocksalt", a=a)) for a in (5.2, 5.4, 5.6, 5.8, 6.0, 6.2)]
with torch.no_grad():
    energies = model(Batch.from_data_list(structures)).flatten()
print(energies)

# %%
# The model has learnt from crystals at rest alone: a curve over the lattice constant shows what it makes of strained
# ones, and is no equation of state.
figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
axes.plot([5.2, 5.4, 5.6, 5.8, 6.0, 6.2], energies, "o-")
axes.set(xlabel="lattice constant of NaCl (Å)", ylabel="formation energy (eV/atom)")

# %%
# Elements
# --------
# The embeddings were random numbers at first. Afterwards, elements of one group of the periodic table are neighbours
# more often than by chance: figure 9 of the second paper.
from pyg_schnet.analysis import draw_embeddings, embedding_map, nearest_elements
from pyg_schnet.units import SYMBOLS

elements = embedding_map(model)
draw_embeddings(elements)
for symbol, row in zip(elements.symbols[:8], nearest_elements(elements, 3).elements.tolist(), strict=False):
    print(f"{symbol:3} {' '.join(SYMBOLS[number] for number in row)}")
