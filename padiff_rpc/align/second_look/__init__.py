"""What this run's own floor says: which differences are larger than rounding makes them, and what float64 says of these."""
