"""Files: written whole or not at all, looked for in mirrors, downloaded over bad networks."""

from pyg_schnet.files.whole import replacing, writing

__all__ = ["replacing", "writing"]
