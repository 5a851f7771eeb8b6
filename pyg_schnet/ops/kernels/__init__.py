"""Compiled loops behind the operations of :mod:`pyg_schnet.ops`; imported only where they run."""
