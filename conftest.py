"""Fixtures for all tests, those of `packages/` included; each part of the sandbox starts once per session."""

pytest_plugins = ["tests.process_groups", "tests.sandbox_fixtures", "tests.database_fixtures", "tests.site_fixtures"]
