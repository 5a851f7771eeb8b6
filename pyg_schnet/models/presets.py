"""Named variants of SchNet: the papers', SchNetPack's and PyG's.

=====================  ===============  ===============  =======================  ===============  ===============
                       ``"nips2017"``   ``"jcp2018"``    ``"jcp2018-materials"``  ``"schnetpack"`` ``"pyg"``
=====================  ===============  ===============  =======================  ===============  ===============
made for               molecules        molecules        crystals                 both             molecules
features, filters      64, 64           64, 64           64, 64                   128, 128         128, 128
interaction blocks     3                6 (3 for MD17)   6                        6                6
Gaussians              300, 0 to 30 Å   200, 0 to 20 Å   50, 0 to 5 Å             20, 0 to 5 Å     50, 0 to 10 Å
gamma                  10 Å⁻²           10 Å⁻²           10 Å⁻²                   1 / (2 h²)       1 / (2 h²)
cutoff function        none             none             none                     cosine           cosine
normalisation          none             none             number of neighbours     none             none
readout                sum              sum              mean                     sum              sum
ssp in filter network  both layers      both layers      both layers              first layer      first layer
activation             ssp              ssp              ssp                      SchNetPack's ssp PyG's ssp
output activation      ssp              ssp              ssp                      silu             PyG's ssp
elements               1 to 118         1 to 118         1 to 118                 1 to 99          1 to 99
=====================  ===============  ===============  =======================  ===============  ===============

h is the spacing of the Gaussians' centres. Every row is an argument of :class:`~pyg_schnet.SchNet`.

``"nips2017"`` is the SchNet of Schütt et al., Advances in Neural Information Processing Systems 30 (2017): three
blocks, Gaussians up to 30 Å, all atoms interact.

``"jcp2018"`` is the SchNet of J. Chem. Phys. 148, 241722 (2018) for molecules (sections II and III). Its text gives the
grid spacing and gamma as 0.1; the authors' code takes ``linspace(0, 20, 200)``, a spacing of 0.1005 Å, and
``exp(-(d - mu)² / 0.1)``, so gamma = 10 Å⁻². We follow the code: the networks of the paper's C20 study (F = 128) give
their energies and forces with it. The authors' code also starts training with the last layer at zero; choose
``zero_output=True`` for that.

``"jcp2018-materials"`` is that of the same paper for crystals (sections II.D.2 and III.B). Without a cutoff function
the energy jumps when a neighbour crosses the cutoff; for dynamics of crystals choose ``cutoff_function="cosine"`` and
``normalization="smooth"``.

``"schnetpack"`` is the SchNet of SchNetPack 2 with the defaults of its configuration and an ``Atomwise`` output. Its
ssp takes the softplus as linear above 20, torch's default.

``"pyg"`` is ``torch_geometric.nn.models.SchNet`` with its defaults. PyG's ssp subtracts a ln 2 that is rounded to
float32 and takes the softplus as linear above 20, also in float64; both shift energies by some 1e-9.
"""

from typing import Any, Self

PRESETS: dict[str, dict[str, Any]] = {
    "nips2017": {
        "hidden_channels": 64,
        "num_filters": 64,
        "num_interactions": 3,
        "num_gaussians": 300,
        "cutoff": 30.0,
        "gamma": 10.0,
        "cutoff_function": None,
        "activate_last": True,
        "act": "ssp",
    },
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
    "schnetpack": {
        "hidden_channels": 128,
        "num_filters": 128,
        "num_interactions": 6,
        "num_gaussians": 20,
        "cutoff": 5.0,
        "gamma": None,
        "cutoff_function": "cosine",
        "activate_last": False,
        "act": "ssp-schnetpack",
        "output_act": "silu",
        "max_z": 99,
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


class Presets(dict[str, dict[str, Any]]):
    """Arguments of the presets by name; printed, one line each."""

    @classmethod
    def all(cls) -> Self:
        """Copies of all presets."""
        return cls({name: dict(arguments) for name, arguments in PRESETS.items()})

    def __str__(self) -> str:
        """One line for each preset."""
        width = max(map(len, self), default=0)
        parts = (", ".join(f"{name}={value!r}" for name, value in one.items()) for one in self.values())
        return "\n".join(f"{name:{width}}  {line}" for name, line in zip(self, parts, strict=True))


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
    arguments = PRESETS[name] | overrides
    if arguments.get("basis", "gaussian") != "gaussian" and "gamma" not in overrides:
        arguments.pop("gamma")  # the width of Gaussians that are not there
    return arguments
