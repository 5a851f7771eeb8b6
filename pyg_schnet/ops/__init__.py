"""Pure functions of tensors: activation, cutoff, basis, convolution, repulsion, derivatives."""

from pyg_schnet import former_names
from pyg_schnet.ops.activation import shifted_softplus
from pyg_schnet.ops.cfconv import cfconv
from pyg_schnet.ops.cutoff import cosine_cutoff, mollifier_cutoff, polynomial_cutoff
from pyg_schnet.ops.derivatives import (
    cell_volume,
    first_derivatives,
    forces_from_edges,
    forces_from_energy,
    gradient,
    stress_from_virials,
    virials_from_edges,
)
from pyg_schnet.ops.geometry import edge_vectors
from pyg_schnet.ops.radial import bessel_basis, gaussian_basis
from pyg_schnet.ops.repulsion import zbl_repulsion

__all__ = [
    "bessel_basis",
    "cell_volume",
    "cfconv",
    "cosine_cutoff",
    "edge_vectors",
    "first_derivatives",
    "forces_from_edges",
    "forces_from_energy",
    "gaussian_basis",
    "gradient",
    "mollifier_cutoff",
    "polynomial_cutoff",
    "shifted_softplus",
    "stress_from_virials",
    "virials_from_edges",
    "zbl_repulsion",
]

former_names.attach(__name__)
