"""The slash commands of a chat: lines that are never sent to the model."""

from __future__ import annotations

from typing import Protocol

import click
from rich.table import Table
from rich.text import Text

from ....engine import Invalid
from ..terminal import one_line, print_table, printable
from .client import Talk

HELP = (
    ("/help", "list these commands"),
    ("/model [NAME]", "answer with another model from now on; alone, list the models"),
    ("/system [TEXT]", "set the system prompt; alone, show it"),
    ("/tools [NAME…]", "offer the model these tools, or with - none; alone, list the tools"),
    ("/new", "begin another session with the next message"),
    ("/quit", "leave, as Ctrl-D does"),
    ("//TEXT", "send /TEXT to the model"),
    ('"""', "begin a message of several lines, which ends with the same; a line that ends in \\ goes on, too"),
    ("Ctrl-C", "cancel the answer; what came of it is on record"),
)


class Conversation(Protocol):
    """What the commands act on."""

    talk: Talk

    @property
    def model(self) -> str | None: ...

    @property
    def system(self) -> str | None: ...

    @property
    def tools(self) -> tuple[str, ...]: ...

    def set_model(self, name: str) -> None: ...

    def set_system(self, text: str | None) -> None: ...

    def set_tools(self, names: tuple[str, ...]) -> None: ...

    def renew(self) -> None: ...


def obey(line: str, chat: Conversation) -> bool:
    """Do what a line that begins with a slash says; False: leave. Raises Invalid for a command that there is not, and
    what the commands raise.
    """
    name, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    match name:
        case "/quit":
            return False
        case "/new":
            chat.renew()
        case "/help":
            _help()
        case "/model":
            _model(rest, chat)
        case "/system":
            _system(rest, chat)
        case "/tools":
            _tools(tuple(rest.split()), chat)
        case _:
            raise Invalid(
                "command", f"there is no {name}: /help lists what there is, and /{name} sends {name} as it is"
            )
    return True


def _help() -> None:
    width = max(len(name) for name, _ in HELP)
    for name, does in HELP:
        click.echo(f"  {name:<{width}}  {does}", err=True)


def _model(name: str, chat: Conversation) -> None:
    if name:
        chat.set_model(name)
        _say(f"{name} answers from now on")
        return
    table = _table()
    for model in chat.talk.models():
        table.add_row(Text("*" if model.name == chat.model else ""), Text(one_line(model.name)))
    print_table(table, err=True)


def _system(text: str, chat: Conversation) -> None:
    if text:
        chat.set_system(text)
        _say("the system prompt is set")
    else:
        _say(printable(chat.system) if chat.system else "there is no system prompt")


def _tools(names: tuple[str, ...], chat: Conversation) -> None:
    if names:
        chat.set_tools(() if names == ("-",) else names)
        _say(f"offered: {', '.join(chat.tools) or 'none'}")
        return
    table = _table()
    for tool in chat.talk.tools():
        mark = "*" if tool.name in chat.tools else ""
        table.add_row(Text(mark), Text(one_line(tool.name)), Text(one_line(tool.description)))
    print_table(table, err=True)


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)


def _say(text: str) -> None:
    click.secho(text, err=True, dim=True)
