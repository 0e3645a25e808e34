"""Decide by trying where names and shapes leave a choice how raw's tensors follow from base's."""
