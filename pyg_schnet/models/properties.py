"""Properties of structures that come as Data."""

from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.elements import check_elements
from pyg_schnet.models.structures import Structures


def properties(model: AtomisticModel, data: Data, strict: bool = False) -> Tensor:
    """Predict the properties of each structure, references included, in float64.

    What ``model(z, pos, ...)`` gives in the dtype of the model: float32 cannot tell total energies apart.

    Args:
        model: The model.
        data: A ``Data`` or ``Batch`` with ``z`` and ``pos``, and ``cell`` and ``pbc`` of crystals. Its ``edge_index``
            is taken only beside an ``edge_shift``.
        strict: True to refuse elements and charges that the model was never trained on, see
            :func:`~pyg_schnet.models.elements.check_elements`; otherwise it warns once.

    Returns:
        Properties [B, C] float64.

    Raises:
        TypeError: If something is of the wrong kind.
        ValueError: If something is missing or has the wrong shape, or ``strict`` and an element or charge is not known.

    Example:
        >>> import torch
        >>> from pyg_schnet import SchNet
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> properties(SchNet.preset("jcp2018"), water).dtype
        torch.float64
    """
    given = Structures.of_data(data, model.cutoff)
    check_elements(model, given.z, strict, given.batch, given.electrons)
    edges = given.find_edges(model)
    atoms = given.z, given.pos, *given.structure_of_atoms
    return model.total(model.predict(*atoms, edges), given.z, *given.structure_of_atoms)
