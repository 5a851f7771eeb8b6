"""Vibrations of molecules and crystals at a minimum."""
