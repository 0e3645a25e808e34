"""The worker program, which hosts one model behind gRPC."""
