"""Collect data for a support request in one archive without secrets: ``biomeroworker diagnostics``.

`collect` runs the sections one after the other. A section that fails or exceeds its time limit leaves a note in the
archive and does not affect the others. One `Redactor` removes secrets from all text before it is written.
"""

from __future__ import annotations

from biomeroworker.diagnostics.collect import Collected, collect

__all__ = ["Collected", "collect"]
