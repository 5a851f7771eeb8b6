"""Compiled loop of the vectors of periodic pairs (extra ``fast``)."""

from numpy import ndarray

from pyg_schnet.compiling import compiled


@compiled()
def write_vectors(
    vectors: ndarray, pos: ndarray, source: ndarray, target: ndarray, shift: ndarray, cell: ndarray, batch: ndarray
) -> None:
    """Vectors from targets to images of sources, rounded as operations of torch round them.

    Args:
        vectors: To be written [P, 3].
        pos: Positions in Angstrom [N, 3].
        source: Source of each pair [P].
        target: Its target [P].
        shift: Image of its source in units of the cell [P, 3].
        cell: Lattice vectors as rows in Angstrom [B, 3, 3]; those along which nothing is shifted may be anything.
        batch: Structure of each atom [N].
    """
    zero = vectors.dtype.type(0)
    for n in range(len(source)):
        i, j = target[n], source[n]
        s = batch[i]
        for axis in range(3):
            moved = zero
            for k in range(3):
                if shift[n, k] != 0:
                    moved += vectors.dtype.type(shift[n, k]) * cell[s, k, axis]
            vectors[n, axis] = pos[j, axis] - pos[i, axis] + moved
