"""What is asked of the operating system: memory files, malloc, thread priority."""
