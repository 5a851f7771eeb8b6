"""All that a trained model shows of itself and of one structure, on one page."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Data
from tqdm import tqdm

from pyg_schnet.analysis.checks import count
from pyg_schnet.analysis.decomposition_figure import draw_decomposition
from pyg_schnet.analysis.embeddings.embedding_figure import draw_embeddings
from pyg_schnet.analysis.embeddings.embedding_order import group_separation, order_within_groups
from pyg_schnet.analysis.embeddings.embeddings import EmbeddingMap, embedding_map, nearest_elements
from pyg_schnet.analysis.figure import blank_figure
from pyg_schnet.analysis.filters.filter_figures import draw_all_filters, draw_filters
from pyg_schnet.analysis.filters.filters import filter_cut
from pyg_schnet.analysis.molecule import atoms_of
from pyg_schnet.analysis.page import Page
from pyg_schnet.analysis.surfaces.potential_cut import potential_cut
from pyg_schnet.analysis.surfaces.potential_cut_figure import draw_potential_cut
from pyg_schnet.analysis.surfaces.potential_surface import potential_surface
from pyg_schnet.analysis.surfaces.potential_surface_figure import draw_potential_surface
from pyg_schnet.analysis.surfaces.potential_surface_page import potential_surface_plot
from pyg_schnet.analysis.vibrations.mode_figures import draw_spectrum
from pyg_schnet.analysis.vibrations.modes import NormalModes
from pyg_schnet.analysis.vibrations.normal_modes import normal_modes
from pyg_schnet.analysis.vibrations.relaxation import relaxed
from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.committee import Committee, CommitteePotential
from pyg_schnet.models.potential import Potential
from pyg_schnet.units import SYMBOLS

#: Vibrations are computed of so many atoms at most: the Hessian takes three backward passes an atom.
MOST_ATOMS = 60
#: Of so many elements a map is drawn.
FEWEST_ELEMENTS = 3


def look(
    model: Any,
    data: Data | None = None,
    path: str | Path = "look.html",
    *,
    distances: Any = None,
    probe: int = 6,
    relax: bool = True,
    title: str | None = None,
    progress: bool = True,
) -> Path:
    """Write one HTML page with all that can be seen of a model, and of one structure.

    Filters and embeddings; contributions of the atoms, the local chemical potential and vibrations. What does not
    apply, or cannot be computed, is said in its section in one sentence; nothing is left out in silence. The file holds
    all pictures and scripts and needs no network.

    Args:
        model: A model with the papers' layers, a potential of one, or a committee, of which the first member's filters
            and embeddings are shown.
        data: One structure with ``z`` and ``pos``, in crystals ``cell`` and ``pbc``; ``None`` for the model alone.
        path: File to write.
        distances: Structures, or distances in Angstrom, to be drawn beneath the filters; ``None`` for those of
            ``data``.
        probe: Atomic number of the probe for the local chemical potential.
        relax: True if vibrations are those of the nearest minimum instead of the structure as it is.
        title: Heading of the page.
        progress: True to show a progress bar.

    Returns:
        The path.

    Raises:
        ImportError: If matplotlib is missing; sections that need other packages say so.
        TypeError: If ``model`` is none, or ``data`` no ``Data``.
        ValueError: If ``data`` is no single structure.
    """
    model = model.model if isinstance(model, (Potential, CommitteePotential)) else model
    if not isinstance(model, (AtomisticModel, Committee)):
        raise TypeError(
            f"`model` must be a model of atoms such as SchNet, got {type(model).__name__}; load() reads one from a file"
        )
    if data is not None:
        atoms_of(data)  # says what is wrong with it
    blank_figure(1.0, 1.0)  # without pictures there is no page
    one = model[0] if isinstance(model, Committee) else model
    page = Page(title or f"What {type(one).__name__} learned", _summary(model, data))
    sections: dict[str, Callable[[Page], None]] = {
        "The model": lambda page: _model(page, model),
        "Filters": lambda page: _filters(page, one, [data] if distances is None and data is not None else distances),
        "Embeddings": lambda page: _embeddings(page, one),
    }
    if data is not None:
        sections |= {
            "Prediction and contributions of the atoms": lambda page: _decomposition(page, model, data),
            "Local chemical potential": lambda page: _potential(page, model, data, probe),
            "Vibrations": lambda page: _vibrations(page, model, data, relax),
        }
    bar = tqdm(sections.items(), desc="look", unit="section", disable=not progress, leave=False)
    for name, write in bar:
        bar.set_postfix_str(name)
        page.section(name)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            warnings.simplefilter("ignore", DeprecationWarning)  # pyparsing has some of both kinds
            try:
                write(page)
            except (ValueError, TypeError, RuntimeError, ImportError) as error:
                page.note(f"Not shown: {error}.")
        for warning in said:
            page.note(f"Note that {warning.message}.")
    return page.write(path)


def _summary(model: Any, data: Data | None) -> str:
    said = f"A {type(model).__name__} of {sum(p.numel() for p in model.parameters()):,} parameters"
    return f"{said}, and {_formula(data)} as it sees it." if data is not None else f"{said}."


def _formula(data: Data) -> str:
    numbers, counts = torch.unique(data.z.cpu(), return_counts=True)
    found = {SYMBOLS[number]: count for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)}
    first = ["C", "H"] if "C" in found else []  # Hill's order
    order = [symbol for symbol in first if symbol in found] + sorted(found.keys() - set(first))
    formula = "".join(f"{symbol}{found[symbol] if found[symbol] > 1 else ''}" for symbol in order)
    return f"a crystal with the cell {formula}" if _is_periodic(data) else formula


def _is_periodic(data: Data) -> bool:
    pbc = data.get("pbc")
    return pbc is not None and bool(pbc.any())


def _model(page: Page, model: Any) -> None:
    one = model
    if isinstance(model, Committee):
        one = model[0]
        page.text(f"A committee of {len(model)}; filters and embeddings are those of the first member.")
    page.table({name: value for name, value in one.config.items() if value is not None}, ("argument", "value"))
    units = ", ".join(f"{name} in {unit}" for name, unit in one.units.items()) or "not known"
    facts = {"units": units}
    if one.training_set is not None:
        elements = one.training_set.elements
        facts["trained on"] = f"{one.training_set.structures:,} structures"
        facts["atoms seen"] = ", ".join(f"{SYMBOLS[number]} {count:,}" for number, count in elements.items())
    page.table(facts)


def _filters(page: Page, model: Any, distances: Any) -> None:
    page.figure(
        draw_filters(model, distances),
        "Filters of every interaction block over the distance, the most different ones coloured"
        + ("; beneath them the distances in the data." if distances is not None else "."),
    )
    page.figure(
        draw_all_filters(filter_cut(model, width=10.0)),
        "Cuts of 10 Å through all filters of the first block around a single atom; negative is blue, positive red.",
    )


def _embeddings(page: Page, model: Any) -> None:
    found = embedding_map(model)
    if len(found.elements) < FEWEST_ELEMENTS:
        page.note(f"A map needs {FEWEST_ELEMENTS} elements at least; this model was trained on {len(found.elements)}.")
        return
    share = 100 * float(found.explained_variance_ratio[:2].sum())
    page.figure(
        draw_embeddings(found),
        f"Principal components of the embeddings, {share:.0f} % of their variance, coloured by group.",
    )
    nearest = nearest_elements(found, min(3, len(found.elements) - 1))
    rows = [
        (SYMBOLS[number], ", ".join(SYMBOLS[other] for other in others))
        for number, others in zip(found.elements.tolist(), nearest.elements.tolist(), strict=True)
    ]
    page.table(rows, ("element", "nearest elements"))
    _groups(page, found)


def _groups(page: Page, found: EmbeddingMap) -> None:
    """Numbers that say how close elements of a group are, and how well in order; of few elements there are none."""
    try:
        near, order = group_separation(found), order_within_groups(found)
    except ValueError as error:
        page.text(f"Groups of the periodic table are not compared: {error}.")
        return
    rows = [
        ("silhouette of the groups", near.silhouette, near.random_silhouette, near.p_value),
        ("silhouette in the plane of the picture", near.plane, near.random_plane, near.plane_p_value),
        ("nearest element is of the same group", near.neighbours, near.random_neighbours, None),
        ("rank correlation with the period, along component 1", order.mean_rho, 0.0, order.p_value),
        (
            "the same along each group's own direction",
            order.mean_own_rho,
            order.random_own_rho,
            order.own_p_value,
        ),
    ]
    shown = [
        (name, f"{value:.2f}", f"{chance:.2f}", "" if p is None else f"{p:.2g}") for name, value, chance, p in rows
    ]
    page.table(shown, ("groups of the periodic table", "found", "by chance", "p-value"))


def _decomposition(page: Page, model: Any, data: Data) -> None:
    page.figure(
        draw_decomposition(model, data), "Contributions of the atoms, which add up to the prediction of the structure."
    )


def _potential(page: Page, model: Any, data: Data, probe: int) -> None:
    symbol = SYMBOLS[count("probe", probe, most=len(SYMBOLS) - 1)]
    if _is_periodic(data):
        cut = potential_cut(model, data, probe=probe, progress=False)
        page.figure(draw_potential_cut(cut), f"What a probe of {symbol} feels on a plane of the lattice.")
        return
    surface = potential_surface(model, data, probe, progress=False)
    page.interactive(potential_surface_plot(surface), f"What a probe of {symbol} feels on the surface of figure 5.")
    page.figure(draw_potential_surface(surface), "The same as a picture.")
    cut = potential_cut(model, data, probe=probe, progress=False)
    page.figure(draw_potential_cut(cut), "And on the plane through the molecule.")


def _vibrations(page: Page, model: Any, data: Data, relax: bool) -> None:
    if data.z.numel() > MOST_ATOMS:
        page.note(f"Vibrations are shown of at most {MOST_ATOMS} atoms; this structure has {data.z.numel()}.")
        return
    place = relaxed(model, data, progress=False) if relax else data
    modes = normal_modes(model, place)
    page.figure(draw_spectrum(modes), "Wavenumbers of the vibrations" + (" at the nearest minimum." if relax else "."))
    page.table(_levels(modes), ("wavenumber (1/cm)", "modes"))
    page.table(
        {
            "zero-point energy": f"{modes.zero_point_energy:.4f} eV",
            "heat capacity at 298.15 K": f"{float(modes.heat_capacity(298.15)):.6f} eV/K",
            "entropy at 298.15 K": f"{float(modes.entropy(298.15)):.6f} eV/K",
        }
    )


def _levels(modes: NormalModes) -> list[tuple[str, int]]:
    return [(f"{wavenumber:.1f}", count) for wavenumber, count in modes.levels()]
