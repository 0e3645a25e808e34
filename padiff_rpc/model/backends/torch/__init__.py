"""The PyTorch backend; only this package imports torch."""
