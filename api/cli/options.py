"""Settings as options: every setting of ``engine.settings`` is an option of the same name.

Both read the same environment, and options come before it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, get_args

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


def _option(field: msgspec.structs.FieldInfo) -> Callable[[F], F]:
    default = "none" if field.default is None else field.default
    text = f"{describe(field)}  [{env_name(field.name)}; default: {default or 'empty'}]"
    return click.option(f"--{field.name.replace('_', '-')}", field.name, default=None, help=text)


def _metas(kind: Any) -> list[Any]:
    """All annotations of a type, nested ones too."""
    arguments = get_args(kind)
    return list(arguments[1:]) + _metas(arguments[0]) if arguments else []
