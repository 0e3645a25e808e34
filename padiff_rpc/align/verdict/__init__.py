"""Who is at fault, and the Result."""
