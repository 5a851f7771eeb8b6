"""The deep tensor neural network, SchNet's predecessor, as a baseline."""

from typing import Any

from torch import Tensor, nn

from pyg_schnet.graph import Edges
from pyg_schnet.models.arguments import architecture, common
from pyg_schnet.models.atomistic import AtomisticModel, check_sizes
from pyg_schnet.nn import TensorLayer
from pyg_schnet.nn.basis import radial_basis
from pyg_schnet.nn.cutoff import check_positive
from pyg_schnet.nn.cutoff import cutoff_function as make_cutoff
from pyg_schnet.nn.reference import PerTarget


class DTNN(AtomisticModel):
    r"""Deep tensor neural network.

    Schütt, Arbabzadah, Chmiela, Müller and Tkatchenko, Nat. Commun. 8, 13890 (2017), Methods:

    .. math::
        c_i^0 &= c_{Z_i} \\
        c_i^{t+1} &= c_i^t + \sum_{j \ne i} v_{ij}, \quad
            v_{ij} = \tanh\Big(W^\mathrm{fc} \big((W^\mathrm{cf} c_j^t + b^{f_1}) \circ
            (W^\mathrm{df} \hat d_{ij} + b^{f_2})\big)\Big) \\
        E &= \sum_i E_\sigma \hat E_i + E_\mu, \quad
            \hat E_i = W^{\mathrm{out}_2} \tanh(W^{\mathrm{out}_1} c_i^T + b^{\mathrm{out}_1}) + b^{\mathrm{out}_2}

    All passes share their weights, see :class:`~pyg_schnet.nn.TensorLayer`. The defaults are those of the authors' code
    (github.com/atomistic-machine-learning/dtnn) for QM9: 30 coefficients, 60 factors, 3 passes, 15 neurons of output,
    100 Gaussians from 0 to 20 Å of the width 0.2 Å. The paper has the same sizes and width, but its first Gaussian is
    at -1 Å; where atoms are, the Gaussians below zero vanish. As there, a coefficient starts as a random number of the
    variance :math:`1 / \sqrt B` for B coefficients. In crystals, the authors' code expands the images of an atom
    together before the tanh; here every image is a neighbour of its own.

    Args:
        hidden_channels: Number of coefficients of an atom, the paper's B.
        num_factors: Number of factors of the tensor layer.
        num_interactions: Number T of passes.
        num_gaussians: Number of Gaussians from 0 to ``cutoff``.
        cutoff: Distance in Angstrom up to which atoms interact.
        readout: How a property of the structure comes from its atoms, see :func:`~pyg_schnet.nn.make_readout`.
        mean: Mean of the property per atom, see :class:`~pyg_schnet.nn.Reference`.
        std: Standard deviation of the property per atom.
        atomref: Property of single atoms by atomic number, up to [max_z + 1, C].
        out_channels: Number of targets C.
        gamma: Inverse squared width of the Gaussians in 1/Angstrom^2; ``None`` for that of their spacing.
        cutoff_function: ``"cosine"``, ``"mollifier"``, ``"polynomial"`` or, as in the paper, ``None``; without one, the
            energy jumps when a pair crosses the cutoff.
        zero_output: True if the last layers of the passes and of the output start at zero, as in the authors' code:
            training starts from the references.
        readout_options: Arguments of the readout.
        repulsion: ``"zbl"`` to add the repulsion of nuclei at short distance, see :class:`~pyg_schnet.nn.ZBLRepulsion`;
            for energies in eV only.
        max_z: Largest atomic number.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> z, pos = torch.tensor([8, 1, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> DTNN()(z, pos).shape
        torch.Size([1, 1])
    """

    def __init__(
        self,
        hidden_channels: int = 30,
        num_factors: int = 60,
        num_interactions: int = 3,
        num_gaussians: int = 100,
        cutoff: float = 20.0,
        *,
        readout: str | nn.Module = "add",
        mean: PerTarget | None = None,
        std: PerTarget | None = None,
        atomref: Tensor | None = None,
        out_channels: int = 1,
        gamma: float | None = 12.5,
        cutoff_function: str | None = None,
        zero_output: bool = True,
        readout_options: dict[str, Any] | None = None,
        repulsion: str | None = None,
        max_z: int = 118,
    ) -> None:
        config = architecture(DTNN, locals())
        config["cutoff"] = check_positive("cutoff", cutoff)
        labels: dict[str, Any] = {"mean": mean, "std": std, "atomref": atomref}
        super().__init__(**common(config), config=config, act="tanh", **labels)
        check_sizes(num_factors=num_factors, num_interactions=num_interactions, num_gaussians=num_gaussians)
        self.num_interactions = num_interactions
        self.basis = radial_basis("gaussian", self.cutoff, num_gaussians, gamma)
        envelope = make_cutoff(cutoff_function, self.cutoff)
        self.interaction = TensorLayer(hidden_channels, num_factors, num_gaussians, envelope, zero_output)
        self._reset_embedding()

    def reset_parameters(self) -> None:
        """Draw all weights anew; references stay."""
        super().reset_parameters()
        self._reset_embedding()

    def represent(self, z: Tensor, edges: Edges) -> Tensor:
        """Coefficients of the atoms after all passes.

        Args:
            z: Atomic numbers [N].
            edges: Edges within the cutoff.

        Returns:
            Coefficients [N, hidden_channels].
        """
        edge_weight = edges.edge_vec.norm(dim=-1)  # [P]
        w = self.interaction.filters(edge_weight, self.basis(edge_weight), edges.edge_pair)  # [E, K], of all passes
        x = self.embedding(z)  # [N, F]
        for _ in range(self.num_interactions):
            x = x + self.interaction.interact(x, edges.edge_index, w)
        return x

    def _reset_embedding(self) -> None:
        nn.init.normal_(self.embedding.weight, std=self.embedding.embedding_dim**-0.25)
