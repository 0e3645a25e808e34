"""Results, made readable: for a terminal, and as JSON."""
