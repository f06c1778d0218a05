"""What an erasure cannot reach, named for ``manent doctor``: words in the facts of events of older versions."""

from __future__ import annotations

from pathlib import Path

from ..log.sqlite.doctor import Finding, looking
from ..log.sqlite.lock import holder
from ..log.sqlite.schema import newest_revision, revision_of
from ..providers.catalogue import Catalogue
from ..sessions.old_words import OldWords, old_words
from ..settings import Settings

NAME, EXPECTED = "words in facts", "none"
OURS = frozenset({"echo", "local", "scripted"})
"""Providers whose models are named here, or in a file of the operator's."""

NOTE = (
    "older versions have written call ids, names of tools and models, and vendors' error codes into facts, which stay "
    "for ever: no erasure reaches these names. What has been written since has them in bodies"
)


def examine_facts(path: Path, settings: Settings) -> list[Finding]:
    """Name the events of an existing database whose facts hold words; none where it must be migrated first."""
    catalogue = Catalogue.load(Path(settings.models_file) if settings.models_file else None)

    def is_listed(model: str) -> bool:
        provider, _, name = model.partition("/")
        return provider in OURS or model == settings.model or catalogue.find(provider, name) is not None

    with looking(path, holder(path)) as connection:
        if revision_of(connection) != newest_revision():
            return []
        found = old_words(connection, is_listed)
    if not found:
        return [Finding(NAME, "none", EXPECTED)]
    return [Finding(NAME, "; ".join(map(_told, found)), EXPECTED, "warning", NOTE)]


def _told(found: OldWords) -> str:
    where = f"position {found.first}" if found.count == 1 else f"positions {found.first} to {found.last}"
    return f"{found.tenant}: {found.count} event{'s' * (found.count != 1)}, {where}"
