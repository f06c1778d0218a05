"""Settings as options: every setting of ``engine.settings`` is an option of the same name.

Both read the same environment, and options come before it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import click
import msgspec

from ...engine import Settings, env_name, from_mapping, unknown_names

F = TypeVar("F", bound=Callable[..., Any])

SECRETS = frozenset(field.name for field in msgspec.structs.fields(Settings) if field.name.endswith("_key"))
"""Set by environment or file only: options stand in process lists."""

CLIENT_NAMES = frozenset({"MANENT_URL", "MANENT_API_KEY", "MANENT_API_KEY_FILE"})
"""Where and as whom the commands that are clients call a server; no settings of the engine."""


def settings_options(*names: str) -> Callable[[F], F]:
    """Options for these settings, or for all that may be options."""

    def decorate(command: F) -> F:
        for field in reversed(msgspec.structs.fields(Settings)):
            if field.name not in SECRETS and (not names or field.name in names):
                command = _option(field)(command)
        return command

    return decorate


def read_settings(options: dict[str, Any], say: Callable[[str], object] | None = None) -> Settings:
    """Settings from options, then the environment; a setting of the environment that does not exist is named."""
    for name in sorted(set(unknown_names(os.environ)) - CLIENT_NAMES):
        (say or partial(click.echo, err=True))(f"manent: there is no setting {name}; it is ignored")
    return from_mapping(os.environ, **options)


def describe(field: msgspec.structs.FieldInfo) -> str:
    """The meaning of a setting."""
    metas = [each for each in _metas(field.type) if isinstance(each, msgspec.Meta)]
    return next(meta.description for meta in metas if meta.description)


class SettingOption(click.Option):
    """An option of a setting; ``section``: the title below which the help lists it."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


SECTIONS = {
    "database": "Database and address",
    "model": "Default model",
    "api_keys_file": "Who may call",
    "openai_base_url": "Vendors, models and tools",
    "checkpoint_file": "Evidence",
    "max_message_bytes": "What callers may send",
    "turn_timeout_s": "Turns",
    "key_requests_per_min": "Rates",
    "max_rounds": "Tools within a turn",
    "replay_jobs": "Replays",
    "max_open_turns": "Streams and connections",
    "drain_s": "The end, and other processes",
    "queue_writes": "Database, inside",
    "log_format": "Log",
}
"""Titles, by the first setting of each section, in the order of the settings."""

_TRUE_DEFAULT = re.compile(r"(?P<meaning>.*) \[(?P<default>.*)\]", re.DOTALL)
"""A description that ends with what holds where the setting is left out."""


def _option(field: msgspec.structs.FieldInfo) -> Callable[[F], F]:
    found = _TRUE_DEFAULT.fullmatch(describe(field))
    meaning = found["meaning"] if found else describe(field)
    default = found["default"] if found else "none" if field.default is None else str(field.default).lower()
    text = f"{meaning[0].upper()}{meaning[1:]}.  [{env_name(field.name)}; default: {default or 'empty'}]"
    kind = _click_type(field.type)
    return click.option(
        f"--{field.name.replace('_', '-')}",
        field.name,
        default=None,
        type=kind,
        metavar="N" if isinstance(kind, click.IntRange) else None,
        help=text,
        cls=SettingOption,
        section=_section(field.name),
    )


def _click_type(kind: Any) -> click.ParamType[Any]:
    """The type of an option, so that what cannot be is refused by the option's name."""
    metas = [each for each in _metas(kind) if isinstance(each, msgspec.Meta)]
    plain = _plain(kind)
    if plain is bool:
        return click.BOOL
    if plain is int:
        return click.IntRange(_bound(metas, "ge"), _bound(metas, "le"))
    if get_origin(plain) is Literal:
        return click.Choice(get_args(plain))
    return click.STRING


def _plain(kind: Any) -> Any:
    """A type without annotations, and without None."""
    while get_origin(kind) in {Annotated, Union, UnionType}:
        kind = next(each for each in get_args(kind) if each is not NoneType)
    return kind


def _bound(metas: list[msgspec.Meta], name: str) -> Any:
    return next((getattr(meta, name) for meta in metas if getattr(meta, name) is not None), None)


def _section(name: str) -> str:
    """The title of the section in which a setting stands."""
    title = ""
    for field in msgspec.structs.fields(Settings):
        title = SECTIONS.get(field.name, title)
        if field.name == name:
            break
    return title


def _metas(kind: Any) -> list[Any]:
    """All annotations of a type, nested ones too."""
    arguments = [each for each in get_args(kind) if each is not NoneType]
    if get_origin(kind) is Literal or not arguments:
        return []
    return arguments[1:] + _metas(arguments[0])
