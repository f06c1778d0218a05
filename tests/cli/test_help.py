"""The help of all commands, read as a page."""

import subprocess
import sys

import click
import pytest

from manent.api.cli.main import SECTIONS, commands


def every(command, path=("manent",)):
    """All commands with their paths."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from every(command.get_command(context, name), (*path, name))


ALL = list(every(commands))


def test_every_command_is_listed_once():
    """In one of the sections of `manent --help`, with what it does; and it has that name."""
    listed = [name for section in SECTIONS.values() for name in section]
    assert len(set(listed)) == len(listed)
    assert all(command.name == path[-1] for path, command in ALL[1:])


def test_a_command_waits_for_no_server_to_be_imported():
    """What only `manent serve` needs is imported by that alone."""
    code = "import sys; from manent.api.cli import ask, main, sessions; print('litestar' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"


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
