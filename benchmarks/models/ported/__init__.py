"""Models for benchmarks/bugs, each in torch and ported to paddle."""
