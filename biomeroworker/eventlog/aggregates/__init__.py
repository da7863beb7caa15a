"""The event-sourced objects: a run and its tasks, their states, and the values in their events."""
