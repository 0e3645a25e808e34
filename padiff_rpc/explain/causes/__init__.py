"""The catalogue of causes: what is known of a first difference, and the rules that recognise one in it."""
