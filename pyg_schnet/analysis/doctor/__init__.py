"""Checks of a model, of whatever class: derivatives, symmetries, smoothness, rounding, coverage."""
