"""Services of the operating system: memory files, files written whole or not at all, malloc, thread priority."""
