"""Fixtures for all tests. The parts of the sandbox come from `tests.sandbox_fixtures`."""

pytest_plugins = ["tests.sandbox_fixtures"]
