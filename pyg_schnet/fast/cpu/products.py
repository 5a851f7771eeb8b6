"""Products of matrices in compiled loops, of rows one behind the other (extra ``fast``).

Of a matrix [rows, columns], columns come by sixteen; rows that are written come by eight on processors with wide
registers, else by four, see :data:`pyg_schnet.fast.cpu.dense.ROWS`.
"""

from numpy import ndarray

from pyg_schnet.compiling import CONTRACT, part
from pyg_schnet.fast.cpu.dense import add_products


@part(CONTRACT)
def add_dense(y: ndarray, x: ndarray, w: ndarray, sizes: tuple[int, int, int]) -> None:
    """Y [rows, outputs] += x [rows, inputs] w for w [inputs, outputs]."""
    rows, inputs, outputs = sizes
    add_products(y, w, x, outputs, (0, 0, 0), (rows, inputs, 1, inputs))


@part(CONTRACT)
def add_transposed(w: ndarray, g: ndarray, x: ndarray, sizes: tuple[int, int, int]) -> None:
    """W [outputs, inputs] += g^T x for g [rows, outputs] and x [rows, inputs], the gradient of a layer's weights."""
    rows, inputs, outputs = sizes
    add_products(w, x, g, inputs, (0, 0, 0), (outputs, 1, outputs, rows))


@part(CONTRACT)
def fill_rows(y: ndarray, b: ndarray) -> None:
    """Begin each row with the biases."""
    for k in range(0, len(y), len(b)):
        for f in range(len(b)):
            y[k + f] = b[f]


@part(CONTRACT)
def add_rows(b: ndarray, g: ndarray) -> None:
    """Sums over all rows, the gradient of biases."""
    for k in range(0, len(g), len(b)):
        for f in range(len(b)):
            b[f] += g[k + f]


@part(CONTRACT)
def multiply_each(y: ndarray, x: ndarray) -> None:
    """Numbers times those in the same places."""
    for n in range(len(y)):
        y[n] *= x[n]
