"""What each stage of a step compares."""
