"""One kind of cause a file: each takes the evidence, and returns the causes that it bears out."""
