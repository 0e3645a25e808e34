"""The worker program."""
