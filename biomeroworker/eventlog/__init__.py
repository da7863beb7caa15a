"""The event log: the events of all runs, and the tables made from them."""
