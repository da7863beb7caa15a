"""One archive with what a support request needs, and no secret in it: ``biomeroworker diagnostics``.

`collect` runs the sections one after the other. A section that fails or takes too long leaves a note in the archive and
never stops the others. All text passes through one `Redactor` on its way into the archive.
"""

from __future__ import annotations

from biomeroworker.diagnostics.collect import Collected, collect

__all__ = ["Collected", "collect"]
