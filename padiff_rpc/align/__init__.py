"""The coordinator: match layers, assign weights, run both sides, compare, and say where they part."""
