"""Remove credentials from text before it is logged, recorded or shown."""

from __future__ import annotations

import re

_LOGIN_IN_URL = re.compile(r"(://[^/\s:@]*:)[^/\s]+(?=@)")
_PASSWORD_IN_QUERY = re.compile(
    r"([?&][\w.-]*(?:password|passwd|pwd|token|secret|signature|api_?key)=)[^&\s]+", re.IGNORECASE
)


def masked(text: str) -> str:
    """``text`` with the passwords of URLs replaced by stars."""
    return _PASSWORD_IN_QUERY.sub(r"\1***", _LOGIN_IN_URL.sub(r"\1***", text))
