"""Offer PaDiff's interface, with its names, defaults and meaning, on top of this library."""
