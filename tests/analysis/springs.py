"""Models whose vibrations are known in closed form: springs, and charges that stay with their atoms."""

import torch

from pyg_schnet.models import AtomisticModel


class Springs(AtomisticModel):
    """Springs between all atoms that are nearer than the cutoff: E = 1/2 sum k (d - d0)^2."""

    def __init__(self, stiffness, length, cutoff=5.0, bend=0.0, angle=0.0):
        super().__init__(8, cutoff, {"readout": "add"})
        self.stiffness, self.length, self.bend, self.angle = stiffness, length, bend, angle

    def predict(self, z, pos, batch, batch_size, edges):
        stretch = edges.edge_vec.norm(dim=1) - self.length
        energy = 0.5 * self.stiffness * stretch.square()
        y = pos.new_zeros(batch_size).index_add(0, batch[edges.pair_index[0]], energy)
        return (y + self._bending(edges)).unsqueeze(1)

    def _bending(self, edges):
        """1/2 k d0^2 (cos - cos0)^2 / sin0^2, or k d0^2 (1 + cos) for a straight angle, at atom 0, of three atoms."""
        if not self.bend:
            return 0.0
        arms = [v if int(i[1]) == 0 else -v for i, v in zip(edges.pair_index.T, edges.edge_vec, strict=True)]
        cosine = torch.cosine_similarity(*arms, dim=0)
        target = torch.tensor(self.angle, dtype=cosine.dtype)
        if self.angle == torch.pi:
            return self.bend * self.length**2 * (1 + cosine)
        return 0.5 * self.bend * self.length**2 * ((cosine - target.cos()) / target.sin()).square()
