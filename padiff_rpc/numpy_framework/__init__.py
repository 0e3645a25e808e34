"""A small autograd framework on NumPy, for the fast tests."""
