"""Mutate one side of healthy pairs at random, and ask whether the tool says so."""
