"""Hooks that record and replace tensors at the boundaries of layers."""
