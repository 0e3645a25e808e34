"""Two tensors -> metrics and a verdict; pure NumPy, chunk by chunk, in float64."""
