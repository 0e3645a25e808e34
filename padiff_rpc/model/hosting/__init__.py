"""A model in this process: HostedModel and what it needs."""
