"""Compiled loops that find the neighbours of every atom and make the graph of them.

For each bin the atoms and images around it are listed once, in the order of a graph, and its atoms pick theirs by the
exact test of distances: rows need no sorting of their own. Every atom sees both directions, so that bins can be
searched in any number of pieces. Loops start no threads of their own.

A neighbour is a key: its number within the structure in the high bits, its image along the three axes in the low ones.
"""

import numpy as np
from numpy import ndarray

from pyg_schnet.compiling import compiled, part
from pyg_schnet.graph.edges import SAME_PLACE_SQUARED
from pyg_schnet.graph.numba_bins import Bins, Grid, Structures

#: Length of the pieces that are sorted by insertion before they are merged.
SHORT = 8


@compiled()
def find_neighbors(
    structures: Structures,
    grid: Grid,
    bins: Bins,
    wrap: ndarray,
    begin: int,
    end: int,
    cutoff: float,
    reach: float,
    degree: ndarray,
    keys: ndarray,
) -> tuple[ndarray, int, int]:
    """Neighbours of the atoms of some bins.

    Args:
        structures: The batch.
        grid: How it is divided into bins.
        bins: Its atoms in the bins.
        wrap: Cells by which they were moved [N, 3].
        begin: First of the bins to look at.
        end: One after the last of them.
        cutoff: Cutoff distance in Angstrom.
        reach: The same with a margin for wrapped positions, which are rounded.
        degree: Number of neighbours of each atom [N], written here.
        keys: Room for the result; if it is too small, a larger one is made.

    Returns:
        Sorted keys of the neighbours of one atom after the other, in the order of the bins; and two atoms at the same
        place, or -1 twice.
    """
    runs, code, spare = np.empty((1, 5), np.int64), np.empty(1, np.int64), np.empty(1, np.int64)
    table, squared = np.empty((6, 1)), np.empty(1)
    one, other, filled, nowhere = -1, -1, 0, min(SAME_PLACE_SQUARED, cutoff * cutoff)
    for home in range(begin, end):
        slot, stop = bins.start[home], bins.start[home + 1]
        if slot == stop:
            continue
        s = structures.batch[bins.order[slot]]
        most = (2 * grid.reach[s, 0] + 1) * (2 * grid.reach[s, 1] + 1) * (2 * grid.reach[s, 2] + 1)
        if len(runs) < most:
            runs = np.empty((most, 5), np.int64)
        number, most = _runs(grid, structures.periodic, bins.start, home, s, runs)
        if len(code) < most:
            code, spare = np.empty(most, np.int64), np.empty(most, np.int64)
            table, squared = np.empty((6, most)), np.empty(most)
        count = _around(structures, grid, bins, home, s, runs, number, reach, code)
        _sort(code, count, spare)
        _look_up(structures, grid, wrap, s, code, count, table)
        for place in range(slot, stop):
            i = bins.order[place]
            same = _distances(structures.pos, structures.cell, wrap, i, s, table, count, nowhere, squared)
            if len(keys) < filled + count:
                keys = _grown(keys, filled, count)
            own = _key(grid.bits, s, i - structures.pointer[s], 0, 0, 0)
            found = _pick(code, squared, count, cutoff * cutoff, own, keys, filled)
            degree[i] = found - filled
            filled = found
            if same > 1 and one < 0:
                one, other = i, structures.pointer[s] + _twin(code, squared, count, nowhere, own, grid.bits, s)
    return keys[:filled], one, other


@part()
def _runs(grid: Grid, periodic: ndarray, start: ndarray, home: int, s: int, runs: ndarray) -> tuple[int, int]:
    """Atoms side by side in the bins around one, and their images; the number of runs and that of atoms in them."""
    nx, ny, nz = grid.number[s, 0], grid.number[s, 1], grid.number[s, 2]
    rx, ry, rz = grid.reach[s, 0], grid.reach[s, 1], grid.reach[s, 2]
    local = home - grid.first[s]
    a, b, c = local // nz // ny, local // nz % ny, local % nz
    number, atoms = 0, 0
    for x in range(a - rx, a + rx + 1):
        u = x // nx
        if u != 0 and not periodic[s, 0]:
            continue
        for y in range(b - ry, b + ry + 1):
            v = y // ny
            if v != 0 and not periodic[s, 1]:
                continue
            z = c - rz
            while z <= c + rz:  # bins of the same image stand side by side
                w = z // nz
                top = min(c + rz, (w + 1) * nz - 1)
                column = grid.first[s] + ((x - u * nx) * ny + y - v * ny) * nz - w * nz
                first, last = start[column + z], start[column + top + 1]
                if first < last and (w == 0 or periodic[s, 2]):
                    runs[number, 0], runs[number, 1] = first, last
                    runs[number, 2], runs[number, 3], runs[number, 4] = u, v, w
                    number, atoms = number + 1, atoms + last - first
                z = top + 1
    return number, atoms


@part()
def _around(
    structures: Structures,
    grid: Grid,
    bins: Bins,
    home: int,
    s: int,
    runs: ndarray,
    number: int,
    reach: float,
    code: ndarray,
) -> int:
    """Keys of the atoms of all runs that are near the box around the atoms of a bin."""
    inside, cell, count = bins.inside, structures.cell, 0
    offset = np.empty(3)
    dx, dy, dz = bins.box[home, 1, 0], bins.box[home, 1, 1], bins.box[home, 1, 2]
    for run in range(number):
        u, v, w = runs[run, 2], runs[run, 3], runs[run, 4]
        for k in range(3):
            offset[k] = u * cell[s, 0, k] + v * cell[s, 1, k] + w * cell[s, 2, k] - bins.box[home, 0, k]
        ox, oy, oz = offset[0], offset[1], offset[2]
        image = _key(grid.bits, s, 0, u, v, w)
        width = grid.bits[s, 0] + grid.bits[s, 1] + grid.bits[s, 2]
        for slot in range(runs[run, 0], runs[run, 1]):
            px, py, pz = inside[slot, 0] + ox, inside[slot, 1] + oy, inside[slot, 2] + oz
            px, py, pz = px - min(max(px, 0.0), dx), py - min(max(py, 0.0), dy), pz - min(max(pz, 0.0), dz)
            code[count] = ((bins.order[slot] - structures.pointer[s]) << width) + image
            count += px * px + py * py + pz * pz < reach * reach  # no branch, which would be mispredicted
    return count


@part()
def _key(bits: ndarray, s: int, number: int, u: int, v: int, w: int) -> int:
    """What :func:`_image` spells out."""
    key = (number << bits[s, 0]) + u + (1 << bits[s, 0] >> 1)
    key = (key << bits[s, 1]) + v + (1 << bits[s, 1] >> 1)
    return (key << bits[s, 2]) + w + (1 << bits[s, 2] >> 1)


@part()
def _image(bits: ndarray, s: int, key: int) -> tuple[int, int, int, int]:
    """Number of an atom within its structure and its image: what a key means."""
    a, b, c = bits[s, 0], bits[s, 1], bits[s, 2]
    w = (key & ((1 << c) - 1)) - (1 << c >> 1)
    v = (key >> c & ((1 << b) - 1)) - (1 << b >> 1)
    u = (key >> (b + c) & ((1 << a) - 1)) - (1 << a >> 1)
    return key >> (a + b + c), u, v, w


@part()
def _look_up(
    structures: Structures, grid: Grid, wrap: ndarray, s: int, code: ndarray, count: int, table: ndarray
) -> None:
    """Positions as they were given, and shifts relative to atoms that were not moved, of all keys."""
    for k in range(count):
        number, u, v, w = _image(grid.bits, s, code[k])
        j = structures.pointer[s] + number
        for axis in range(3):
            table[axis, k] = structures.pos[j, axis]
        table[3, k], table[4, k], table[5, k] = u - wrap[j, 0], v - wrap[j, 1], w - wrap[j, 2]


@part()
def _distances(
    pos: ndarray,
    cell: ndarray,
    wrap: ndarray,
    i: int,
    s: int,
    table: ndarray,
    count: int,
    nowhere: float,
    squared: ndarray,
) -> int:
    """Squared distances from atom i, rounded as ``squared_distance`` rounds them; how many are zero, its own is one."""
    x, y, z = pos[i, 0], pos[i, 1], pos[i, 2]
    a, b, c = float(wrap[i, 0]), float(wrap[i, 1]), float(wrap[i, 2])
    ax, ay, az = cell[s, 0, 0], cell[s, 0, 1], cell[s, 0, 2]
    bx, by, bz = cell[s, 1, 0], cell[s, 1, 1], cell[s, 1, 2]
    cx, cy, cz = cell[s, 2, 0], cell[s, 2, 1], cell[s, 2, 2]
    same = 0
    for k in range(count):
        u, v, w = table[3, k] + a, table[4, k] + b, table[5, k] + c
        dx = (table[0, k] - x) + (u * ax + v * bx + w * cx)
        dy = (table[1, k] - y) + (u * ay + v * by + w * cy)
        dz = (table[2, k] - z) + (u * az + v * bz + w * cz)
        squared[k] = dx * dx + dy * dy + dz * dz
        same += squared[k] < nowhere
    return same


@part()
def _pick(code: ndarray, squared: ndarray, count: int, cutoff: float, own: int, keys: ndarray, filled: int) -> int:
    """Append the keys of those closer than the cutoff, but not that of the atom itself."""
    for k in range(count):
        keys[filled] = code[k]
        filled += (squared[k] < cutoff) & (code[k] != own)
    return filled


@part()
def _twin(code: ndarray, squared: ndarray, count: int, nowhere: float, own: int, bits: ndarray, s: int) -> int:
    """Another atom at the same place."""
    for k in range(count):
        if squared[k] < nowhere and code[k] != own:
            return _image(bits, s, code[k])[0]
    return -1


@part()
def _grown(keys: ndarray, filled: int, more: int) -> ndarray:
    larger = np.empty(2 * (filled + more), np.int64)
    for k in range(filled):
        larger[k] = keys[k]
    return larger


@part()
def _sort(row: ndarray, size: int, spare: ndarray) -> None:
    """Sort keys: short pieces by insertion, then merge them without branches."""
    for begin in range(0, size, SHORT):
        for k in range(begin + 1, min(begin + SHORT, size)):
            key, place = row[k], k
            while place > begin and row[place - 1] > key:
                row[place] = row[place - 1]
                place -= 1
            row[place] = key
    width, source, result, swapped = SHORT, row, spare, False
    while width < size:
        for begin in range(0, size, 2 * width):
            _merge(source, result, begin, min(begin + width, size), min(begin + 2 * width, size))
        source, result, swapped, width = result, source, not swapped, 2 * width
    if swapped:
        for k in range(size):  # copying slices takes seconds to compile
            row[k] = spare[k]


@part()
def _merge(source: ndarray, result: ndarray, left: int, right: int, end: int) -> None:
    """Merge the sorted pieces [left, right) and [right, end)."""
    stop, k = right, left
    while left < stop and right < end:
        first = source[left] < source[right]
        result[k] = source[left] if first else source[right]  # no branch, which would be mispredicted
        left, right, k = left + first, right + (not first), k + 1
    while left < stop:
        result[k] = source[left]
        left, k = left + 1, k + 1
    while right < end:
        result[k] = source[right]
        right, k = right + 1, k + 1


@compiled()
def write_edges(
    structures: Structures,
    grid: Grid,
    bins: Bins,
    wrap: ndarray,
    begin: int,
    end: int,
    keys: ndarray,
    rowptr: ndarray,
    edge_index: ndarray,
    edge_shift: ndarray,
) -> None:
    """Spell out what :func:`find_neighbors` found for some bins in the rows of the graph."""
    done = 0
    for slot in range(bins.start[begin], bins.start[end]):
        i = bins.order[slot]
        s = structures.batch[i]
        base, a, b, c = structures.pointer[s], wrap[i, 0], wrap[i, 1], wrap[i, 2]
        for edge in range(rowptr[i], rowptr[i + 1]):
            number, u, v, w = _image(grid.bits, s, keys[done])
            j = base + number
            edge_index[0, edge], edge_index[1, edge] = j, i
            edge_shift[edge, 0] = u - wrap[j, 0] + a
            edge_shift[edge, 1] = v - wrap[j, 1] + b
            edge_shift[edge, 2] = w - wrap[j, 2] + c
            done += 1


@compiled()
def match_edges(
    structures: Structures, first: int, last: int, rowptr: ndarray, source: ndarray, reverse: ndarray
) -> bool:
    """Find the reverse of each edge of some targets; False if there is none, which only rounding could cause.

    With targets in ascending order, the next reverse in the row of a source is always the first one not yet taken;
    images of the same pair come in opposite order there.
    """
    if first == last:
        return True
    batch, pointer = structures.batch, structures.pointer
    base, end = pointer[batch[first]], pointer[batch[last - 1] + 1]
    free = np.empty(end - base, np.int64)
    for i in range(base, end):
        free[i - base] = _place(source, rowptr[i], rowptr[i + 1], first)
    for i in range(first, last):
        edge, stop = rowptr[i], rowptr[i + 1]
        while edge < stop:
            j, count = source[edge], 1
            while edge + count < stop and source[edge + count] == j:
                count += 1
            for k in range(count):
                reverse[edge + k] = free[j - base] + count - 1 - k
            free[j - base] += count
            edge += count
    complete = True
    for i in range(base, end):
        complete &= free[i - base] == _place(source, rowptr[i], rowptr[i + 1], last)
    return complete


@part()
def _place(source: ndarray, low: int, high: int, least: int) -> int:
    """First edge of a sorted row whose source is at least this."""
    if low == high or source[low] >= least:
        return low
    if source[high - 1] < least:
        return high
    while low < high:
        middle = (low + high) // 2
        if source[middle] < least:
            low = middle + 1
        else:
            high = middle
    return low
