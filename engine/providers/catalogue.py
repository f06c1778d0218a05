"""The catalogue of models: sizes, capabilities and dated prices, from the data file beside this one.

The file says its date and its sources; what it does not know is absent, and never a guess. Another file of the same
form may be laid over it: an entry there changes the fields that it gives (``prices`` as a whole), and a new model is
added. Its header is optional, except for ``as_of``.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ..errors import Invalid
from ..events.usage import Price
from .base import Chunk, Counting, ModelInfo, Provider
from .tokens import family_of

DATA = "catalogue.json"
SETTING = "models_file"
MAX_FILE_BYTES = 4 << 20

Capability = Literal[
    "text", "images", "documents", "tools", "thinking", "sampling", "effort", "thinking_budget", "json_schema"
]
"""Input besides text (``documents``: PDF), tool calls, thinking, and parameters: a temperature and its like
(``sampling``), reasoning by ``effort`` or by a budget of tokens, and answers of a JSON Schema."""

Tokens = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]

_SNAPSHOT = re.compile(r"-20\d\d(?:-[01]\d-[0-3]\d|[01]\d[0-3]\d)")


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model of a provider. None is *not known*; ``prices`` are in order of their days."""

    provider: Name
    name: Name
    aliases: tuple[Name, ...] = ()
    context_tokens: Tokens | None = None
    max_output_tokens: Tokens | None = None
    capabilities: tuple[Capability, ...] | None = None
    prices: tuple[Price, ...] = ()
    note: str = ""

    def info(self, asked: str | None = None) -> ModelInfo:
        """The entry as a provider describes it, by the name that was asked for: the name of a snapshot, or an alias,
        stays.
        """
        name = asked or self.name
        return ModelInfo(
            name, family_of(name), self.context_tokens, self.max_output_tokens, self.capabilities, self.prices
        )


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    as_of: date
    currency: str = "USD"
    about: str = ""
    sources: tuple[str, ...] = ()
    models: tuple[dict[str, Any], ...]


class Catalogue:
    """The known models. ``as_of``: the date of the newest of its files; ``sources``: the sources of their figures."""

    def __init__(self, entries: Sequence[Entry], as_of: date, sources: Sequence[str] = ()) -> None:
        self.as_of = as_of
        self.sources = tuple(sources)
        self._entries = tuple(entries)
        self._by_name = {(entry.provider, name): entry for entry in entries for name in (entry.name, *entry.aliases)}

    @classmethod
    def load(cls, override: Path | None = None) -> Catalogue:
        """Load the shipped file, and ``override`` over it. Raises Invalid, which names file, model and field."""
        own = Path(__file__).with_name(DATA).read_bytes()
        if override is None:
            return cls.read((DATA, own))
        return cls.read((DATA, own), (override.name, read_file(override, SETTING, MAX_FILE_BYTES)))

    @classmethod
    def of_own_address(cls, file: Path | None) -> Catalogue:
        """The catalogue for a server that is not the vendor's: only what the file says, because there the same name may
        be another model at another price.
        """
        return cls((), date.min) if file is None else cls.read((file.name, read_file(file, SETTING, MAX_FILE_BYTES)))

    @classmethod
    def read(cls, *files: tuple[str, bytes]) -> Catalogue:
        """Read files, given as name and content, each laid over those before it."""
        raw: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
        headers = []
        for name, data in files:
            header = _header(name, data)
            headers.append(header)
            raw |= _laid_over({key: fields for key, (_, fields) in raw.items()}, name, header)
        entries = [_entry(name, key, fields) for key, (name, fields) in raw.items()]
        _check_names(entries, {key: name for key, (name, _) in raw.items()})
        return cls(entries, max(each.as_of for each in headers), [line for each in headers for line in each.sources])

    def models(self, provider: str) -> Sequence[Entry]:
        """The models of a provider, in the file's order."""
        return tuple(entry for entry in self._entries if entry.provider == provider)

    def find(self, provider: str, name: str) -> Entry | None:
        """Find a model by its name, an alias, or either with the date of a snapshot; None if it is not known."""
        found = self._by_name.get((provider, name))
        if found is None and (snapshot := _SNAPSHOT.search(name)) and snapshot.end() == len(name):
            found = self._by_name.get((provider, name[: snapshot.start()]))
        return found


def read_file(path: Path, setting: str, most_bytes: int) -> bytes:
    """Read a file that a setting names, within its bound. Raises Invalid, which names the setting."""
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise Invalid(setting, f"{path.name} cannot be read: {error.__class__.__name__}") from None
    if len(data) > most_bytes:
        raise Invalid(setting, f"{path.name} is larger than {most_bytes} bytes")
    return data


def _header(file: str, data: bytes) -> _File:
    try:
        return msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(SETTING, f"{file}: {error}") from None


def _laid_over(
    below: Mapping[tuple[str, str], dict[str, Any]], file: str, header: _File
) -> dict[tuple[str, str], tuple[str, dict[str, Any]]]:
    """The file's models, with the fields of the files below. A price without a currency is in the header's."""
    found: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for number, fields in enumerate(header.models):
        provider, name = fields.get("provider"), fields.get("name")
        if not (isinstance(provider, str) and isinstance(name, str)):
            raise Invalid(SETTING, f"{file}: models[{number}] needs provider and name")
        if (provider, name) in found:
            raise Invalid(SETTING, f"{file}: {provider}/{name}: is listed twice")
        found[provider, name] = file, below.get((provider, name), {}) | _with_currency(fields, header.currency)
    return found


def _with_currency(fields: dict[str, Any], currency: str) -> dict[str, Any]:
    prices = fields.get("prices")
    if not isinstance(prices, list):
        return fields
    return fields | {"prices": [{"currency": currency} | each if isinstance(each, dict) else each for each in prices]}


def _entry(file: str, key: tuple[str, str], fields: dict[str, Any]) -> Entry:
    where = f"{file}: {'/'.join(key)}"
    try:
        entry = msgspec.convert(fields, Entry)
    except msgspec.ValidationError as error:
        raise Invalid(SETTING, f"{where}: {error}") from None
    prices = sorted(entry.prices, key=_first_day)
    if len({price.since for price in prices}) < len(prices):
        raise Invalid(SETTING, f"{where}: prices: two are from the same day")
    return msgspec.structs.replace(entry, prices=tuple(prices))


def _first_day(price: Price) -> date:
    return price.since or date.min


def _check_names(entries: Sequence[Entry], files: Mapping[tuple[str, str], str]) -> None:
    """Refuse a name or alias that means two models."""
    owners: dict[tuple[str, str], str] = {}
    for entry in entries:
        for name in {entry.name, *entry.aliases}:
            owner = owners.setdefault((entry.provider, name), entry.name)
            if owner != entry.name:
                file = files[entry.provider, entry.name]
                detail = f"{file}: {entry.provider}/{entry.name}: aliases: {name} is also {owner}'s"
                raise Invalid(SETTING, detail)


def catalogued(provider: Provider, catalogue: Catalogue) -> Provider:
    """A provider whose models are described by the catalogue."""
    if isinstance(provider, Counting):
        return _CataloguedCounting(provider, provider, catalogue)
    return Catalogued(provider, catalogue)


class Catalogued:
    """A provider that gets the descriptions of its models from a catalogue, and all else from the provider itself."""

    def __init__(self, provider: Provider, catalogue: Catalogue) -> None:
        self.name = provider.name
        self.renderer = provider.renderer
        self.renderers = provider.renderers
        self._provider = provider
        self._catalogue = catalogue

    def models(self) -> Sequence[ModelInfo]:
        return [entry.info() for entry in self._catalogue.models(self.name)] or self._provider.models()

    def model(self, name: str) -> ModelInfo | None:
        entry = self._catalogue.find(self.name, name)
        return self._provider.model(name) if entry is None else entry.info(name)

    def stream(self, request: bytes) -> AsyncGenerator[Chunk, None]:
        return self._provider.stream(request)

    async def aclose(self) -> None:
        await self._provider.aclose()


class _CataloguedCounting(Catalogued):
    """The same for a provider that counts tokens."""

    def __init__(self, provider: Provider, counting: Counting, catalogue: Catalogue) -> None:
        super().__init__(provider, catalogue)
        self._counting = counting

    async def count_tokens(self, request: bytes) -> int:
        return await self._counting.count_tokens(request)
