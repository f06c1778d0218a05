"""The help of all commands, read as a page."""

import click
import pytest

from manent.api.cli.main import SECTIONS, commands


def every(command, path=("manent",)):
    """All commands with their paths."""
    yield path, command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from every(each, (*path, name))


ALL = list(every(commands))


def test_every_command_is_listed_once():
    """In one of the sections of `manent --help`, with what it does."""
    listed = [name for section in SECTIONS.values() for name in section]
    assert sorted(listed) == sorted(commands.commands)


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_help_is_in_sentences(call, path, command):
    """The page begins with a sentence, options are described in sentences, and every line fits."""
    done = call(*path[1:], "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert command.help
    assert command.help[0].isupper()
    for option in command.params:
        if isinstance(option, click.Option):
            said = (option.help or "").partition("  [")[0]
            assert said, option.name
            assert said.rstrip().endswith("."), said


def test_settings_are_options_of_their_type(call):
    """With the values there are, and with the default that holds where nothing is set."""
    shown = " ".join(call("serve", "--help").stdout.split())
    assert "--port N" in shown
    assert "--log-format [text|json]" in shown
    assert "default: local/smollm2-135m, or echo/echo without the extra]" in shown
    assert "default: DATABASE.checkpoints]" in shown
