"""padiff-rpc."""
