"""The durable run: an accepted run ends exactly once."""
