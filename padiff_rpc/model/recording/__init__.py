"""Record and replace tensors at the boundaries of layers, by hooks."""
