"""Plant bugs of ports in healthy pairs, and ask whether the tool names the layer and the cause."""
