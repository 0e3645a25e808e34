"""Say what a difference is, and what made it: from tensors and facts of both sides to words."""
