"""Checks of a provider's configuration: its base URL, its key, and the hosts that need no proxy."""

from __future__ import annotations

from urllib.parse import urlsplit

from ...errors import Invalid


def checked_url(base_url: str, field: str) -> str:
    """The address without a slash at its end. Raises Invalid, which names ``field`` and not the address.

    Keys belong in headers: in an address they would get into logs.
    """
    try:
        parts = urlsplit(base_url)
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or any(sign in base_url for sign in "@?#"):
        raise Invalid(field, "must be an http or https address without user, query or fragment")
    return base_url.rstrip("/")


def checked_key(api_key: str | None, field: str) -> str | None:
    """The key, or None if there is none. Raises Invalid, which names ``field`` and not the key."""
    if api_key and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
        raise Invalid(field, "must be printable ASCII without blanks")
    return api_key or None


def proxy_pattern(host: str) -> str:
    """An exempt host as httpx's pattern: a name with all names below it, an address as it is."""
    if "://" in host:
        return host
    if host.count(":") > 1:
        return f"all://[{host.strip('[]')}]"
    if host == "localhost" or host.replace(".", "").replace(":", "").isdigit():
        return f"all://{host}"
    return f"all://*{host}"
