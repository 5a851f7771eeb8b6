"""Named variants of SchNet: the paper's and PyG's.

==================  ======================  =======================  ======================
                    ``"jcp2018"``           ``"jcp2018-materials"``  ``"pyg"``
==================  ======================  =======================  ======================
made for            molecules               crystals                 molecules
features, filters   64, 64                  64, 64                   128, 128
interaction blocks  6 (3 for MD17)          6                        6
Gaussians           200 from 0 to 20 Å      50 from 0 to 5 Å         50 from 0 to 10 Å
gamma               10 Å⁻²                  10 Å⁻²                   1 / (2 h²), h the spacing
cutoff function     none                    none                     cosine
normalisation       none                    by number of neighbours  none
readout             sum                     mean                     sum
filter network      ssp after both layers   ssp after both layers    ssp after the first layer
activation          ssp                     ssp                      PyG's ssp
elements            1 to 118                1 to 118                 1 to 99
==================  ======================  =======================  ======================

``"jcp2018"`` is the SchNet of J. Chem. Phys. 148, 241722 (2018) for molecules (sections II and III). Its text gives the
grid spacing and gamma as 0.1; the authors' code takes ``linspace(0, 20, 200)``, a spacing of 0.1005 Å, and
``exp(-(d - mu)² / 0.1)``, so gamma = 10 Å⁻². We follow the code: the networks of the paper's C20 study (F = 128) give
their energies and forces with it.

``"jcp2018-materials"`` is that of the same paper for crystals (sections II.D.2 and III.B). Without a cutoff function
the energy jumps when a neighbour crosses the cutoff; for dynamics of crystals choose ``cutoff_function="cosine"`` and
``normalization="smooth"``.

``"pyg"`` is ``torch_geometric.nn.models.SchNet`` with its defaults. PyG's ssp subtracts a ln 2 that is rounded to
float32 and takes the softplus as linear above 20, also in float64; both shift energies by some 1e-9.
"""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "jcp2018": {
        "hidden_channels": 64,
        "num_filters": 64,
        "num_interactions": 6,
        "num_gaussians": 200,
        "cutoff": 20.0,
        "gamma": 10.0,
        "cutoff_function": None,
        "activate_last": True,
        "act": "ssp",
    },
    "jcp2018-materials": {
        "hidden_channels": 64,
        "num_filters": 64,
        "num_interactions": 6,
        "num_gaussians": 50,
        "cutoff": 5.0,
        "gamma": 10.0,
        "cutoff_function": None,
        "activate_last": True,
        "act": "ssp",
        "normalization": "mean",
        "readout": "mean",
    },
    "pyg": {
        "hidden_channels": 128,
        "num_filters": 128,
        "num_interactions": 6,
        "num_gaussians": 50,
        "cutoff": 10.0,
        "gamma": None,
        "cutoff_function": "cosine",
        "activate_last": False,
        "act": "ssp-pyg",
        "max_z": 99,
    },
}


def preset_arguments(name: str, **overrides: Any) -> dict[str, Any]:
    """Arguments of :class:`~pyg_schnet.SchNet` for a preset.

    Args:
        name: Name of the preset.
        **overrides: Arguments that replace those of the preset.

    Returns:
        All arguments by name.

    Raises:
        ValueError: If there is no such preset.

    Example:
        >>> preset_arguments("jcp2018", num_interactions=3)["num_interactions"]
        3
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; expected one of {', '.join(map(repr, PRESETS))}")
    return PRESETS[name] | overrides
