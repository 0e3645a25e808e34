"""Say what a difference is: rounding, or something that a user should know of."""
