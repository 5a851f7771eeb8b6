"""Filters as curves of the distance and as cuts through space."""
