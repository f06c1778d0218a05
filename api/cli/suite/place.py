"""Where suites are: in a database file, or with ``--url`` on a server."""

from __future__ import annotations

from ..place import Place
from .client import Record
from .local import FileRecord
from .remote import ServerRecord


def open_record(place: Place, *, writes: bool) -> Record:
    """A record to be closed. Raises what opening a file raises, and Invalid for what is no address."""
    if place.url is not None:
        return ServerRecord(place.url, place.api_key)
    return FileRecord(place.settings(), place.caller(), writes=writes)
