"""A small autograd framework on NumPy, on which the fast tests run."""
