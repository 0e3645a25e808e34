"""One model, wherever it lives: the Model and Backend seams, and HostedModel for a model in this process."""
