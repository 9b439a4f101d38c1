"""Pixel Redrawn for a robust adversarial defence, reproduced (see README.md for the map of the modules)."""

__version__ = "0.1.0"
