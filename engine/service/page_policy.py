"""The content security policy of pages that are one file: their own style, and nothing else. No script can run."""

from __future__ import annotations

import hashlib
from base64 import b64encode


def page_policy(style: str) -> str:
    """The policy that stands in a page whose only style is this."""
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def sent_policy(style: str) -> str:
    """The policy to send the page with: it may stand in no frame, besides."""
    return f"{page_policy(style)}; frame-ancestors 'none'"
