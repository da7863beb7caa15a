"""The event-sourced log of runs."""
