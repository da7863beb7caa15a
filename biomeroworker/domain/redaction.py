"""Remove credentials from text before it is logged, recorded or shown."""

from __future__ import annotations

import re

_LOGIN_IN_URL = re.compile(r"(://[^/\s:@]*:)[^/\s]+(?=@)")
#: The user part of a web address may be a token without a password.
_TOKEN_IN_WEB_ADDRESS = re.compile(r"(https?://)[^/\s:@'\"]+(?=@)", re.IGNORECASE)
_PASSWORD_IN_QUERY = re.compile(
    r"([?&][\w.-]*(?:password|passwd|pwd|token|secret|signature|api_?key)=)[^&\s]+", re.IGNORECASE
)


def mask_credentials(text: str) -> str:
    """Replace the passwords and tokens in URLs by stars."""
    text = _TOKEN_IN_WEB_ADDRESS.sub(r"\1***", _LOGIN_IN_URL.sub(r"\1***", text))
    return _PASSWORD_IN_QUERY.sub(r"\1***", text)
