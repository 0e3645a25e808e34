"""What padiff-rpc costs, each figure a ratio taken in the same run."""
