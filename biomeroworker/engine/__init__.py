"""The durable execution of runs: an accepted run ends exactly once."""
