"""PaDiff's interface, under its names, defaults and meaning, on top of this library."""
