"""The console's files, served as they lie in ``api/console``, under a policy that lets no markup come from words.

They are public: they hold nothing but code. All of them are read at the start, and each is sent with its digest as
``ETag``, to be asked for again each time: a page never runs modules of two versions.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec

from .errors import Problem

FOLDER = Path(__file__).parent.parent / "console"
HOME = "/console/"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cache-control": "no-cache",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "vary": "Accept-Encoding",
}


class File(msgspec.Struct, frozen=True):
    media_type: str
    content: bytes
    packed: bytes
    etag: str


def is_file(path: str) -> bool:
    """Whether a path leads to the console's files, and nowhere else."""
    return path in {"/", "/console"} or path.startswith(HOME)


def read_files(folder: Path = FOLDER) -> dict[str, File]:
    """Path below ``/console/`` -> file; the empty one is the page itself."""
    files = {
        path.relative_to(folder).as_posix(): _read(path) for path in sorted(folder.rglob("*")) if path.suffix in TYPES
    }
    return files | {"": files["index.html"]}


def _read(path: Path) -> File:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:32]
    return File(TYPES[path.suffix], content, gzip.compress(content, mtime=0), digest)


class ConsoleFiles:
    """ASGI middleware that answers for the console's files, and for ``/``, which leads to them."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._files = read_files()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not is_file(scope["path"]):
            await self._app(scope, receive, send)
            return
        status, headers, body = self._answer(scope)
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _answer(self, scope: Any) -> tuple[int, dict[str, str], bytes]:
        """Raises Problem for another method than GET and HEAD, and for a file that is not there."""
        if scope["method"] not in {"GET", "HEAD"}:
            detail = "the console's files are read with GET and HEAD"
            raise Problem(405, "method_not_allowed", detail, HEADERS | {"allow": "GET"})
        if not scope["path"].startswith(HOME):
            return 307, HEADERS | {"location": HOME, "content-length": "0"}, b""
        file = self._files.get(scope["path"].removeprefix(HOME))
        if file is None:
            raise Problem(404, "not_found", "the console has no file of this name", HEADERS)
        asked = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        packs = _takes_gzip(asked.get("accept-encoding", ""))
        etag = f'"{file.etag}{"-gz" if packs else ""}"'
        headers = HEADERS | {"etag": etag}
        if _names(asked.get("if-none-match", ""), etag):
            return 304, headers, b""
        body = file.packed if packs else file.content
        headers |= {"content-type": file.media_type, "content-length": str(len(body))}
        return 200, headers | ({"content-encoding": "gzip"} if packs else {}), body


def _takes_gzip(accepted: str) -> bool:
    """Whether a client takes gzip (RFC 9110, section 12.5.3): a weight of 0 means that it does not."""
    for each in accepted.lower().split(","):
        name, _, weight = each.partition(";")
        if name.strip() == "gzip":
            return re.fullmatch(r"q=0(\.0*)?", weight.strip()) is None
    return False


def _names(condition: str, etag: str) -> bool:
    """Whether ``If-None-Match`` names a file as it is (RFC 9110, section 13.1.2)."""
    return condition.strip() == "*" or etag in {each.strip().removeprefix("W/") for each in condition.split(",")}
