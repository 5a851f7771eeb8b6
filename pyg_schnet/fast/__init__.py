"""Everything that is faster than the readable network, behind one door: :mod:`pyg_schnet.fast.shortcut`."""

from pyg_schnet.fast.bspline import FilterTable, evaluate
from pyg_schnet.fast.convolution import to_edges, to_nodes, to_table
from pyg_schnet.fast.knots import knot_spacing
from pyg_schnet.fast.spline import filter_table, interpolate
from pyg_schnet.fast.ways import exactly, recorded, without

__all__ = [
    "FilterTable",
    "evaluate",
    "exactly",
    "filter_table",
    "interpolate",
    "knot_spacing",
    "recorded",
    "to_edges",
    "to_nodes",
    "to_table",
    "without",
]
