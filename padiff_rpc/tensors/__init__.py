"""Tensors as bytes: their headers, blocks, digests, conversions and transposes. NumPy only."""
