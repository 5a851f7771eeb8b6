"""Do the kernels on this device give what plain PyTorch gives there? Asked once, before anything uses them unasked."""

import functools
import warnings

import torch

from pyg_schnet.fast import convolution
from pyg_schnet.fast.convolution_reference import edges_reference, nodes_reference
from pyg_schnet.fast.operands import Form, Pairs

#: Pairs, nodes and features that are tried.
PAIRS, NODES, FEATURES, ROWS = 1000, 100, 64, 40
#: What is taken for rounding: errors relative to the largest number. Those of a wrong kernel are near one.
TOLERANCE = 1e-4


@functools.cache
def kernels_agree(device: torch.device) -> bool:
    """True if the kernels that a frozen model needs agree with plain PyTorch in float64; else there is one warning.

    Args:
        device: A GPU.

    Returns:
        False, too, where there are no kernels.
    """
    loops = convolution.gpu_loops()
    if loops is None:
        return False
    try:
        error = _largest_error(loops, device)
    except Exception as failure:  # compilers and drivers fail in any way
        reason = (str(failure).splitlines() or [type(failure).__name__])[0]
    else:
        if error <= TOLERANCE:
            return True
        reason = f"they are off by {error:.0e}"
    warnings.warn(
        f"the kernels of tabulated filters do not work on {device} ({reason}); filters are evaluated for each pair",
        RuntimeWarning,
        stacklevel=3,
    )
    return False


@torch.no_grad()
def _largest_error(loops: object, device: torch.device) -> float:
    random = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=random, dtype=torch.float64).to(device)

    form = Form(0.5, 0.1, 0, True)
    x, g, c = numbers(NODES, FEATURES), numbers(NODES, FEATURES), numbers(ROWS, FEATURES)
    d, s = 0.5 + 3.4 * numbers(PAIRS), numbers(PAIRS)
    target, source = ((NODES * numbers(PAIRS)).long() for _ in range(2))
    exact, rounded = Pairs(d, s, target, source), Pairs(d.float(), s.float(), target, source)
    near = exact._replace(d=rounded.d.double(), s=rounded.s.double() if rounded.s is not None else None)
    low = [one.float() for one in (x, g, c)]
    x, g, c = (one.double() for one in low)
    nodes = loops.nodes(low[0], low[2], rounded, NODES, form)  # type: ignore[attr-defined]
    a, slope = torch.empty_like(rounded.d), torch.empty_like(rounded.d)
    loops.edges_and_slopes(low[1], low[0], low[2], rounded, form, a, slope)  # type: ignore[attr-defined]
    truths = (
        nodes_reference(x, c, near, NODES, form),
        edges_reference(g, x, c, near, form),
        edges_reference(g, x, c, near, form.next_order()),
    )
    errors = [(one - true).abs().max() / true.abs().max() for one, true in zip((nodes, a, slope), truths, strict=True)]
    return float(torch.stack(errors).amax())
