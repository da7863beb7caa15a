"""Fixtures for all tests: the parts of the sandbox, and databases for the log."""

pytest_plugins = ["tests.sandbox_fixtures", "tests.database_fixtures"]
