"""Two descriptions -> the map of layers and parameters. Pure: no model is run."""
