"""Services of the operating system: memory files, malloc, thread priority."""
