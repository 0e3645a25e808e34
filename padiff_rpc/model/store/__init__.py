"""Where what a step recorded waits: memory, then disk, then a clear error."""
