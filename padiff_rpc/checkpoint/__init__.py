"""Write checkpoints in the formats of the frameworks, without a framework."""
