"""Run one phase on both sides, and judge its boundaries as they come."""
