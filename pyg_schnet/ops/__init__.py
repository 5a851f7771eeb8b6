"""Pure functions of tensors: activation, cutoff, basis, convolution, derivatives."""

from pyg_schnet.ops.activation import shifted_softplus
from pyg_schnet.ops.cfconv import cfconv
from pyg_schnet.ops.cutoff import cosine_cutoff
from pyg_schnet.ops.derivatives import forces_from_energy
from pyg_schnet.ops.geometry import edge_vectors
from pyg_schnet.ops.radial import gaussian_basis

__all__ = ["cfconv", "cosine_cutoff", "edge_vectors", "forces_from_energy", "gaussian_basis", "shifted_softplus"]
