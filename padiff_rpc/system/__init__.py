"""What is asked of the operating system: memory files, whole files, malloc, thread priority."""
