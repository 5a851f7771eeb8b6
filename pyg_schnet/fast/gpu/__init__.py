"""Triton kernels for GPUs (extra ``gpu``), imported only where they run."""
