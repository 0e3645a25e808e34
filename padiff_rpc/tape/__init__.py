"""Dumps on disk, in PaDiff's format extended: writing them, and RecordedModel, which reads them back as a Model."""
