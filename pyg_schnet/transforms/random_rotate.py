"""Random rotations of whole structures."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from pyg_schnet.transforms.turning import turn


@functional_transform("random_rotate_structure")
class RandomRotate(BaseTransform):
    """Turn a structure at random: positions, lattice vectors, forces, stress and all else that points somewhere.

    Energies stay, and so does a model's opinion of them; a graph with ``edge_shift`` stays valid. What is a vector or a
    tensor is known by its name, see :func:`~pyg_schnet.transforms.turning.kind_of`; where that is not clear, nothing is
    guessed. Rotations are drawn from torch's generator; all structures of a batch get the same one.

    Args:
        degrees: Angles are drawn between these two, or between -``degrees`` and ``degrees``; ``None`` for rotations
            that are uniform over all orientations.
        axis: The axis to turn around, 0, 1 or 2, if ``degrees`` are given; clockwise, as PyG's ``RandomRotate``.
        vectors: Further keys that are vectors [..., 3].
        tensors: Further keys that are tensors [..., 3, 3].
        unchanged: Keys that stay as they are.

    Raises:
        ValueError: If ``axis`` is none of the three, or angles are not finite.

    Example:
        >>> data = Data(pos=torch.eye(3), forces=2 * torch.eye(3), energy=torch.tensor([1.0]))
        >>> turned = RandomRotate()(data)
        >>> torch.allclose(turned.forces, 2 * turned.pos), torch.equal(turned.pos, data.pos)
        (True, False)
    """

    def __init__(
        self,
        degrees: tuple[float, float] | float | None = None,
        axis: int = 0,
        *,
        vectors: Sequence[str] = (),
        tensors: Sequence[str] = (),
        unchanged: Sequence[str] = (),
    ) -> None:
        if axis not in {0, 1, 2}:
            raise ValueError(f"`axis` must be 0, 1 or 2, got {axis}")
        if isinstance(degrees, (int, float)):
            degrees = (-abs(degrees), abs(degrees))
        if degrees is not None and not (len(degrees) == 2 and all(map(math.isfinite, degrees))):
            raise ValueError(f"`degrees` must be a number, two numbers or None, got {degrees}")
        self.degrees, self.axis = degrees, axis
        self.vectors, self.tensors, self.unchanged = tuple(vectors), tuple(tensors), tuple(unchanged)

    def forward(self, data: Data) -> Data:
        """Turn a structure.

        Args:
            data: The structure, or a batch.

        Returns:
            The turned structure, with new tensors.

        Raises:
            ValueError: If a key may be a vector or not, or a named key has another shape.
        """
        if self.degrees is None:
            matrix = uniform_rotation()
        else:
            low, high = self.degrees
            # PyG turns clockwise
            matrix = rotation(-math.radians(low + (high - low) * float(torch.rand(()))), self.axis)
        turn(data, matrix, self.vectors, self.tensors, self.unchanged)
        return data

    def __repr__(self) -> str:
        around = "" if self.degrees is None else f"{self.degrees}, axis={self.axis}"
        return f"{type(self).__name__}({around})"


def rotation(angle: float, axis: int) -> Tensor:
    """Rotation around a coordinate axis.

    Args:
        angle: Angle in radians, positive by the right-hand rule.
        axis: 0, 1 or 2.

    Returns:
        The matrix [3, 3], float64.

    Example:
        >>> rotation(math.pi / 2, 2).round().tolist()
        [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    matrix = torch.eye(3, dtype=torch.float64)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[second, first], matrix[first, second] = math.sin(angle), -math.sin(angle)
    return matrix


def uniform_rotation() -> Tensor:
    """A rotation drawn uniformly from all, by a unit quaternion of four normal numbers.

    K. Shoemake, Uniform random rotations, Graphics Gems III (1992).

    Returns:
        The matrix [3, 3], float64.

    Example:
        >>> matrix = uniform_rotation()
        >>> torch.allclose(matrix @ matrix.T, torch.eye(3).double()), round(float(torch.linalg.det(matrix)), 6)
        (True, 1.0)
    """
    w, x, y, z = torch.nn.functional.normalize(torch.randn(4, dtype=torch.float64), dim=0).tolist()
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )
