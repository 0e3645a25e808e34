"""Models in other processes: launch or connect to a worker, and use its model over gRPC."""
