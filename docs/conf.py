"""Sphinx's configuration."""

project = "biomeroworker"
author = "the biomeroworker developers"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "biomeroworker"
exclude_patterns = ["_build", "settings.md"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
