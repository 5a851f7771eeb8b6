"""Studies of a trained model: errors, what it learned, vibrations, structure of what it simulates."""

from pyg_schnet.analysis.chemical_potential import local_chemical_potential
from pyg_schnet.analysis.conservation import energy_drift, energy_plot
from pyg_schnet.analysis.decomposition import Decomposition, energy_decomposition
from pyg_schnet.analysis.decomposition_figure import draw_decomposition
from pyg_schnet.analysis.doctor import Diagnosis, doctor
from pyg_schnet.analysis.embeddings.embedding_figure import draw_embeddings
from pyg_schnet.analysis.embeddings.embedding_order import group_separation, order_within_groups, variance_by_chance
from pyg_schnet.analysis.embeddings.embeddings import EmbeddingMap, embedding_map, nearest_elements, untrained
from pyg_schnet.analysis.errors import Predictions, error_summary, parity_plot, predict
from pyg_schnet.analysis.evaluate import evaluate
from pyg_schnet.analysis.filters.filter_figures import (
    draw_all_filters,
    draw_filter,
    draw_filter_cut,
    draw_filter_cuts,
    draw_filters,
)
from pyg_schnet.analysis.filters.filters import FilterCurves, FilterCut, filter_curves, filter_cut
from pyg_schnet.analysis.learning_curve import learning_curve
from pyg_schnet.analysis.look import look
from pyg_schnet.analysis.molecule_figure import draw_molecule
from pyg_schnet.analysis.page import Page
from pyg_schnet.analysis.path_integrals.harmonic_beads import harmonic_energy
from pyg_schnet.analysis.path_integrals.path_integral_energies import PathIntegralEnergies, path_integral_energies
from pyg_schnet.analysis.path_integrals.perturbed_distances import perturbed_distances
from pyg_schnet.analysis.path_integrals.ring_polymer import RingPolymer
from pyg_schnet.analysis.published import Published, published, published_rows
from pyg_schnet.analysis.report import Report, in_paper_units
from pyg_schnet.analysis.structure.cluster_distances import ClusterDistances, cluster_distances
from pyg_schnet.analysis.structure.density_of_states import DensityOfStates, density_of_states
from pyg_schnet.analysis.structure.displacement import Displacement, diffusion_coefficient, mean_square_displacement
from pyg_schnet.analysis.structure.radial_distribution import (
    RadialDistribution,
    partial_distributions,
    radial_distribution,
)
from pyg_schnet.analysis.structure.structure_figures import (
    draw_cluster_distributions,
    draw_density_of_states,
    draw_displacement,
    draw_radial_distribution,
)
from pyg_schnet.analysis.structure.trajectories import Beads
from pyg_schnet.analysis.surfaces.cube import write_cube, write_potential_cube
from pyg_schnet.analysis.surfaces.isosurface import Surface, isosurface
from pyg_schnet.analysis.surfaces.potential_cut import PotentialCut, potential_cut
from pyg_schnet.analysis.surfaces.potential_cut_figure import draw_potential_cut, draw_potential_cuts
from pyg_schnet.analysis.surfaces.potential_surface import PotentialSurface, potential_surface
from pyg_schnet.analysis.surfaces.potential_surface_figure import draw_potential_surface, draw_potential_surfaces
from pyg_schnet.analysis.surfaces.potential_surface_page import potential_surface_page, potential_surface_plot
from pyg_schnet.analysis.target_errors import TargetErrors
from pyg_schnet.analysis.vibrations.infrared import dipole_derivatives, infrared_intensities
from pyg_schnet.analysis.vibrations.mode_animation import mode_frames, write_animation
from pyg_schnet.analysis.vibrations.mode_figures import draw_spectrum
from pyg_schnet.analysis.vibrations.modes import NormalModes
from pyg_schnet.analysis.vibrations.normal_modes import normal_modes
from pyg_schnet.analysis.vibrations.phonon_bands import phonon_bands, phonon_density, phonon_heat_capacity
from pyg_schnet.analysis.vibrations.phonon_figures import draw_phonon_bands, draw_phonon_density
from pyg_schnet.analysis.vibrations.phonons import phonons
from pyg_schnet.analysis.vibrations.relaxation import relaxed
from pyg_schnet.analysis.vibrations.spectrum import spectrum

__all__ = [
    "Beads",
    "ClusterDistances",
    "Decomposition",
    "DensityOfStates",
    "Diagnosis",
    "Displacement",
    "EmbeddingMap",
    "FilterCurves",
    "FilterCut",
    "NormalModes",
    "Page",
    "PathIntegralEnergies",
    "PotentialCut",
    "PotentialSurface",
    "Predictions",
    "Published",
    "RadialDistribution",
    "Report",
    "RingPolymer",
    "Surface",
    "TargetErrors",
    "cluster_distances",
    "density_of_states",
    "diffusion_coefficient",
    "dipole_derivatives",
    "doctor",
    "draw_all_filters",
    "draw_cluster_distributions",
    "draw_decomposition",
    "draw_density_of_states",
    "draw_displacement",
    "draw_embeddings",
    "draw_filter",
    "draw_filter_cut",
    "draw_filter_cuts",
    "draw_filters",
    "draw_molecule",
    "draw_phonon_bands",
    "draw_phonon_density",
    "draw_potential_cut",
    "draw_potential_cuts",
    "draw_potential_surface",
    "draw_potential_surfaces",
    "draw_radial_distribution",
    "draw_spectrum",
    "embedding_map",
    "energy_decomposition",
    "energy_drift",
    "energy_plot",
    "error_summary",
    "evaluate",
    "filter_curves",
    "filter_cut",
    "group_separation",
    "harmonic_energy",
    "in_paper_units",
    "infrared_intensities",
    "isosurface",
    "learning_curve",
    "local_chemical_potential",
    "look",
    "mean_square_displacement",
    "mode_frames",
    "nearest_elements",
    "normal_modes",
    "order_within_groups",
    "parity_plot",
    "partial_distributions",
    "path_integral_energies",
    "perturbed_distances",
    "phonon_bands",
    "phonon_density",
    "phonon_heat_capacity",
    "phonons",
    "potential_cut",
    "potential_surface",
    "potential_surface_page",
    "potential_surface_plot",
    "predict",
    "published",
    "published_rows",
    "radial_distribution",
    "relaxed",
    "spectrum",
    "untrained",
    "variance_by_chance",
    "write_animation",
    "write_cube",
    "write_potential_cube",
]
