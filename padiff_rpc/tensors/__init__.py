"""A tensor's bytes, blocks, digests, transposes; NumPy only."""
