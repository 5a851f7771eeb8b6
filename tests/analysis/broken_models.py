"""Models that are wrong in one way each, as one writes them by mistake."""

import torch

from pyg_schnet import Potential, SchNet
from pyg_schnet.models.elements import TrainingSet

SIZES = {"hidden_channels": 12, "num_filters": 12, "num_interactions": 2, "num_gaussians": 20, "cutoff": 5.0}


def sound(kind=SchNet, **options):
    """A small model with random weights, or one that is wrong in the way of its class."""
    torch.manual_seed(1)
    return kind(**(SIZES | options)).eval()


class _WithoutSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, slope):
        return torch.zeros_like(slope)


class CutoffWithoutSlope(torch.nn.Module):
    """A cutoff function whose derivative is forgotten in the forces."""

    def __init__(self, cutoff):
        super().__init__()
        self.inner = cutoff

    def forward(self, distance):
        return _WithoutSlope.apply(self.inner(distance))


def force_without_cutoff_term():
    model = sound(filters="exact")
    for block in model.interactions:
        block.conv.cutoff = CutoffWithoutSlope(block.conv.cutoff)
    return model


class WrongUnit(Potential):
    """Forces in kcal/mol/Angstrom beside energies in eV."""

    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        return out | {"forces": out["forces"] * 23.06}


class WrongSign(Potential):
    """Gradients that are taken for forces."""

    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        return out | {"forces": -out["forces"]}


class PressureForStress(Potential):
    """The sign of a pressure."""

    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        return out | ({"stress": -out["stress"]} if "stress" in out else {})


def _nearest(edges, most=32):
    """The nearest edges of each atom alone, as some graph searches take them by default."""
    distance, target = _distances(edges), edges.edge_index[1]
    kept = [(target == atom).nonzero().squeeze(1) for atom in target.unique().tolist()]
    kept = torch.cat([target[:0], *(own[distance[own].argsort()[:most]] for own in kept)])
    return _only(edges, kept)


def _distances(edges):
    return edges.edge_weight if edges.edge_pair is None else edges.edge_weight[edges.edge_pair]


def _only(edges, kept):
    pairs = kept if edges.edge_pair is None else edges.edge_pair[kept]
    return edges._replace(edge_index=edges.edge_index[:, kept], edge_pair=pairs)


class Truncated(SchNet):
    """The 32 nearest neighbours."""

    def edges(self, *args, **kwargs):
        return _nearest(super().edges(*args, **kwargs))


class TruncatedInside(SchNet):
    """The same where no list of edges shows it."""

    def represent(self, z, edges):
        return super().represent(z, _nearest(edges))


class Hole(SchNet):
    """Pairs that fall into each other below 0.9 Angstrom."""

    def predict(self, z, pos, batch, batch_size, edges):
        energy = super().predict(z, pos, batch, batch_size, edges)
        hole = -30 * torch.sigmoid((0.85 - edges.edge_weight) / 0.03)
        return energy.index_add(0, batch[edges.pair_index[0]], hole.unsqueeze(1))


def hole():
    model = sound(Hole)
    model.training_set = TrainingSet({1: 500, 6: 200, 7: 100, 8: 100}, 50, 20)
    return model


class Jump(SchNet):
    """Filters that end at the cutoff without going to zero, though the model says that they do."""

    def __init__(self, **options):
        super().__init__(**options)
        for block in self.interactions:
            block.conv.cutoff = _One()


class _One(torch.nn.Module):
    def forward(self, distance):
        return torch.ones_like(distance)


class Placed(SchNet):
    """An energy that depends on where the molecule is."""

    def predict(self, z, pos, batch, batch_size, edges):
        energy = super().predict(z, pos, batch, batch_size, edges)
        return energy.index_add(0, batch, 1e-3 * pos[:, :1].sin())


class Oriented(SchNet):
    """An energy that depends on the axes."""

    def predict(self, z, pos, batch, batch_size, edges):
        energy = super().predict(z, pos, batch, batch_size, edges)
        share = 1e-3 * edges.edge_vec[:, :1].square() * torch.exp(-edges.edge_weight.square()).unsqueeze(1)
        return energy.index_add(0, batch[edges.pair_index[0]], share)


class Handed(SchNet):
    """Triple products: mirror images differ."""

    def predict(self, z, pos, batch, batch_size, edges):
        energy = super().predict(z, pos, batch, batch_size, edges)
        vector = edges.edge_vec * torch.exp(-edges.edge_weight).unsqueeze(1) * z[edges.pair_index[0]].unsqueeze(1)
        sums = [
            energy.new_zeros(batch_size, 3).index_add(
                0, batch[edges.pair_index[0]], vector * edges.edge_weight.unsqueeze(1) ** k
            )
            for k in range(3)
        ]
        return energy + 1e-3 * torch.linalg.det(torch.stack(sums, 1)).unsqueeze(1)


class BatchMean(SchNet):
    """Features less their mean over all atoms there are, those of other structures included."""

    def represent(self, z, edges):
        x = super().represent(z, edges)
        return x - 0.1 * x.mean(0)


class BatchNorm(SchNet):
    """Divided by the number of structures in the batch."""

    def predict(self, z, pos, batch, batch_size, edges):
        return super().predict(z, pos, batch, batch_size, edges) / batch_size


class HalfPrecision(SchNet):
    """Features rounded to sixteen bits inside."""

    def represent(self, z, edges):
        return super().represent(z, edges).half().to(edges.edge_vec.dtype)


class Ordered(SchNet):
    """A readout that weighs atoms by their place in the list."""

    def represent(self, z, edges):
        x = super().represent(z, edges)
        return x * (1 + 0.01 * torch.arange(len(x)).to(x).cos().unsqueeze(1))


class Intensive(SchNet):
    """The mean over atoms of what is said to be a sum."""

    def predict(self, z, pos, batch, batch_size, edges):
        count = torch.bincount(batch, minlength=batch_size).unsqueeze(1)
        return super().predict(z, pos, batch, batch_size, edges) * count.to(pos.dtype).rsqrt()


class Detached(SchNet):
    """One block whose distances are cut off from the forces."""

    def represent(self, z, edges):
        x = super().represent(z, edges)
        return x + super().represent(z, edges._replace(edge_vec=edges.edge_vec.detach()))


class NearestImage(SchNet):
    """The minimum-image convention: one image of each pair, however far the cutoff reaches."""

    def edges(self, z, pos, batch, batch_size, edge_index=None, edge_shift=None, cell=None, pbc=None):
        edges = super().edges(z, pos, batch, batch_size, edge_index, edge_shift, cell, pbc)
        if cell is None:
            return edges
        first = {}
        distance = _distances(edges).tolist()
        for place, pair in enumerate(zip(*edges.edge_index.tolist(), strict=True)):
            if pair[0] != pair[1] and (pair not in first or distance[place] < distance[first[pair]]):
                first[pair] = place
        return _only(edges, torch.tensor(sorted(first.values()), dtype=torch.long))


def stale_tables():
    model = sound().freeze()
    model.filter_tables.mul_(1.02)
    return model


def tables_of_other_weights():
    """Weights changed in a way that nobody notices."""
    model = sound().freeze()
    for block in model.interactions:
        for weight in block.conv.nn.parameters():
            weight.data.mul_(1.05)
    return model


def not_a_number():
    model = sound()
    with torch.no_grad():
        model.embedding.weight[6] = torch.nan
    return model


def unknown_elements():
    model = sound()
    model.training_set = TrainingSet({1: 500, 8: 200}, 50, 20)
    return model


def without_cutoff_function():
    return sound(cutoff_function=None)


#: How to make each, and a check that must fail.
BROKEN: dict[str, tuple] = {
    "force without cutoff term": (force_without_cutoff_term, "forces"),
    "wrong unit of forces": (lambda: WrongUnit(sound()), "forces"),
    "wrong sign of forces": (lambda: WrongSign(sound()), "forces"),
    "wrong sign of the stress": (lambda: PressureForStress(sound()), "stress"),
    "truncated graph": (lambda: sound(Truncated), "graph"),
    "truncated inside": (lambda: sound(TruncatedInside), "smooth path"),
    "hole": (hole, "repulsion"),
    "jump at the cutoff": (lambda: sound(Jump), "smooth cutoff"),
    "no cutoff function": (without_cutoff_function, "smooth cutoff"),
    "depends on the place": (lambda: sound(Placed), "translation"),
    "depends on the axes": (lambda: sound(Oriented), "rotation"),
    "handed": (lambda: sound(Handed), "reflection"),
    "mean over the batch": (lambda: sound(BatchMean), "batch"),
    "divided by the batch": (lambda: sound(BatchNorm), "batch"),
    "half precision inside": (lambda: sound(HalfPrecision), "forces"),
    "depends on the order": (lambda: sound(Ordered), "permutation"),
    "not extensive": (lambda: sound(Intensive), "extensivity"),
    "detached": (lambda: sound(Detached), "forces"),
    "nearest image only": (lambda: sound(NearestImage), "supercell"),
    "tables that were changed": (stale_tables, "tables"),
    "tables of other weights": (tables_of_other_weights, "tables"),
    "not a number": (not_a_number, "translation"),
}
