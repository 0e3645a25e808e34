"""A model in this process: HostedModel, and the modules that only it needs."""
