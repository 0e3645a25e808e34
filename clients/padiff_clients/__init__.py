"""Programs that drive workers."""
