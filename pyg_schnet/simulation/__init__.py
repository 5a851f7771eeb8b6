"""Dynamics with a trained model."""
