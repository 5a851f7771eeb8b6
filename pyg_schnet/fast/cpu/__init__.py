"""Compiled loops for CPUs (extra ``fast``), imported only where they run."""
