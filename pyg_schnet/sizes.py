"""Sizes at which something else is done: how much at a time, and how many from which on. All of them are here.

They change how long a computation takes and how much memory it needs; results stay the same to rounding, and most of
them to the last bit. They were measured on current processors. Each is read when it is needed, so that it can be set.
"""

from dataclasses import dataclass


@dataclass
class Sizes:
    """All sizes that are not part of a method.

    Example:
        >>> SIZES.max_atoms
        256
    """

    #: The fewest products of edges and features for which another thread pays, measured in steps of training.
    products_per_thread: int = 1 << 20

    #: Atoms of the largest structure up to which compiled loops look at all pairs, if all structures are open.
    all_pairs_up_to: int = 512
    #: Atoms whose neighbours compiled loops search at a time.
    atoms_per_piece: int = 1 << 16
    #: The fewest atoms for which another thread pays in a search for neighbours.
    atoms_per_thread: int = 1 << 11
    #: The fewest edges of crystals for which one pays, if atoms are fewer.
    edges_per_thread: int = 1 << 12
    #: Neighbours of an atom for which room is reserved.
    neighbors_per_atom: int = 72
    #: Atoms above which the matrix of all distances costs more than it saves.
    matrix_up_to: int = 512
    #: Pairs of open structures that plain PyTorch examines one by one (some 100 MB); beyond, linked cells take over.
    most_pairs: int = 1 << 20
    #: Rows (atom, neighbouring bin) that plain PyTorch examines at a time, which bounds the memory of a search.
    rows_per_chunk: int = 1 << 19
    #: Pairs of atoms that plain PyTorch examines at a time.
    pairs_per_chunk: int = 1 << 22
    #: Numbers in a matrix of all distances, up to which a GPU makes one.
    matrix_on_device: int = 1 << 22
    #: Rows at a time for a GPU, where each piece costs two waits: rows, which take some hundred bytes each.
    rows_on_device: int = 1 << 21
    #: And pairs of atoms that are examined at a time, likewise.
    candidates_on_device: int = 1 << 24
    #: Pairs of a point in space and an atom's image that are looked at together, which bounds the memory.
    pairs_at_once: int = 1 << 21

    #: Atoms of the largest structure that compiled passes do as a whole; larger ones they do layer by layer.
    max_atoms: int = 256
    #: Atoms that dense layers of a compiled pass take at a time where it goes layer by layer, a multiple of sixteen.
    atoms_per_tile: int = 96
    #: Filters that its convolutions take at a time there, a multiple of sixteen.
    filters_at_once: int = 64
    #: Atoms of a group, if structures are smaller: what is kept of them fits the caches of current processors.
    atoms_per_group: int = 96
    #: Distances of atoms in a cluster that are in memory at the same time, where their distribution is counted.
    distances_at_once: int = 1 << 21
    #: Distances at which a filter is evaluated at a time, where a cut through it is drawn.
    filter_distances_at_once: int = 50_000
    #: Steps for which a skin list that has been of no use rests, at first; it doubles each time.
    steps_of_rest: int = 4

    #: Atoms up to which steps on a GPU are recorded without being asked for.
    recorded_up_to: int = 1 << 17
    #: Atoms from which on a GPU evaluates frozen filters without being asked to.
    frozen_from: int = 2000
    #: Pairs from which on a GPU makes tables for a batch without being asked to.
    tables_from: int = 50_000
    #: Edges of an interval between two knots that one program of a GPU sums, on average.
    edges_per_program: int = 256
    #: The most programs of a GPU for an interval between two knots.
    programs_per_interval: int = 64


#: The sizes that are in use.
SIZES = Sizes()
