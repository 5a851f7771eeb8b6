"""Files of the package that need an engine which `all` does not bring are looked at where that is installed."""

from importlib.util import find_spec

_ENGINES = {"ipi": "ipi", "openmm": "openmm", "openmm_ml": "openmmml", "torchsim": "torch_sim"}
collect_ignore = [f"pyg_schnet/simulation/{file}.py" for file, needed in _ENGINES.items() if find_spec(needed) is None]
