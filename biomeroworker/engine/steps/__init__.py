"""The steps of a run: what is done in each state, and what follows from the result."""
