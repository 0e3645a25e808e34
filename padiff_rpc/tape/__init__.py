"""Dumps on disk, in PaDiff's format extended: written, and read back as a Model by RecordedModel."""
