"""Name the layers at fault, and put the Result together."""
