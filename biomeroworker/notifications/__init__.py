"""Notify people and programs of the ends of runs: an e-mail on request, a webhook for every end."""
