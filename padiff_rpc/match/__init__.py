"""Match two models by their descriptions: which layers, parameters and buffers correspond. No model is run."""
