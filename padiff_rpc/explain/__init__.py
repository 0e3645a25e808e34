"""Explain a difference: from tensors and facts of both sides to words, without a model, a framework or a network."""
