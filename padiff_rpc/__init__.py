"""Align PyTorch and PaddlePaddle models that live in separate processes, environments or hosts."""
