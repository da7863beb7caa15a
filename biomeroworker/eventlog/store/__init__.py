"""The recorder of events, and the tables that are written in the same transactions."""
