"""Keep the tensors that a step recorded: in memory, then on disk, then end with a clear error."""
