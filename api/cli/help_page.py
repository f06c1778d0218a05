"""Help as a page: commands in sections, and examples at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

Examples = Sequence[tuple[str, str]]
"""Command lines, and what each does."""


MOST_TOGETHER = 3
"""Sections of settings that a command's own options stand together with."""


class Documented(click.Command):
    """A command whose help ends with examples; many settings are listed in sections."""

    def __init__(self, *args: Any, examples: Examples = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Settings of several sections stand below the title of each."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(option, "section", ""), []).append(record)
        if len(sections) <= MOST_TOGETHER:
            super().format_options(ctx, formatter)
            return
        for title in sorted(sections, key=lambda title: not title):
            with formatter.section(title or "Options"):
                formatter.write_dl(sections[title])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        write_examples(self.examples, formatter)


class Sections(click.Group):
    """A group whose commands are listed in sections; ``sections``: by title, the names and what each does.

    A command's module is imported when the command is asked for, as a server's takes longer than most others run. It is
    in ``package``, of the command's name, or where ``places`` says: ``module`` or ``module:name``.
    """

    def __init__(
        self,
        *args: Any,
        sections: Mapping[str, Mapping[str, str]],
        places: Mapping[str, str],
        package: str | None,
        examples: Examples = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections
        self.places = places
        self.package = package
        self.examples = examples

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the same whatever is asked
        return sorted(name for does in self.sections.values() for name in does)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module, _, name = self.places.get(cmd_name, cmd_name).partition(":")
        command: click.Command = getattr(import_module(f".{module}", self.package), name or cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for title, does in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{width}}", said) for name, said in does.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(self.examples, formatter)
        super().format_epilog(ctx, formatter)


def write_examples(examples: Examples, formatter: click.HelpFormatter) -> None:
    """Each command line whole, with what it does below it."""
    if not examples:
        return
    with formatter.section("Examples"):
        for line, does in examples:
            formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
            formatter.indent()
            formatter.write_text(does)
            formatter.dedent()
