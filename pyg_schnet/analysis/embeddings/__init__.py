"""Embeddings of elements beside the periodic table."""
