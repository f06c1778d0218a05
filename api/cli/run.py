"""``manent run``: conversations as files, run on a model and held against what they expect."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import msgspec

from ... import engine
from ...engine import Caller, ConversationFile, ConversationRun, Invalid, Settings, TurnCheck, Unmet
from .database import caller_for, in_folder, tenant_option
from .junit import Case, junit
from .options import read_settings, settings_options
from .terminal import notice, one_line, printable

MAX_SHOWN_CHARS = 160
STANDARD_OUTPUT = "-"
SETTINGS = (
    *("script", "models_file", "mcp_servers_file", "budget_tokens", "max_rounds"),
    *("max_attempts", "retry_base_ms", "first_chunk_timeout_s", "idle_timeout_s", "turn_timeout_s"),
)


class Ran(msgspec.Struct, frozen=True):
    """A file that was run, on this model."""

    file: str
    model: str | None
    checks: list[TurnCheck]


@click.command("run")
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.option("--model", help="Run on this model, whatever the files say; `scripted` is their own answers.")
@click.option("--database", help="Keep the sessions on record in this database.  [default: a temporary one]")
@click.option("--junit", "junit_file", help="Write the results there, as JUnit's XML; - is standard output.")
@click.option("--json", "json_file", help="Write the results there, as JSON; - is standard output.")
@tenant_option
@settings_options(*SETTINGS)
def run_conversations(
    *,
    files: tuple[Path, ...],
    model: str | None,
    database: str | None,
    junit_file: str | None,
    json_file: str | None,
    tenant: str,
    **options: Any,
) -> None:
    """Run conversations from YAML files, and check what they expect. They run on a temporary database; with --database
    their sessions are kept on record there.

    Exit code 1 if an expectation does not hold, or a turn fails without being expected to. Nothing runs if a file is
    wrong: exit code 2.
    """
    if junit_file == json_file == STANDARD_OUTPUT:
        raise click.UsageError("--junit and --json cannot both go to standard output.")
    for place in (junit_file, json_file):
        _check_folder(place)
    settings, caller = read_settings(options | {"database": database}), caller_for(tenant)
    runs = [ConversationRun(_read(path), settings, model=model) for path in files]
    say = partial(click.secho, err=STANDARD_OUTPUT in {junit_file, json_file})
    ran = [asyncio.run(_run(run, settings, caller, say, lasting=database is not None)) for run in runs]
    failed = sum(not check.passed for each in ran for check in each.checks)
    say(f"{sum(len(each.checks) for each in ran)} turns, {failed} failed", bold=True)
    if junit_file is not None:
        _write(junit_file, junit(case for each in ran for case in _cases(each)))
    if json_file is not None:
        _write(json_file, _as_json_text(ran))
    if failed:
        sys.exit(1)


def _read(path: Path) -> ConversationFile:
    try:
        with path.open("rb") as opened:
            data = opened.read(engine.ConversationFile.MAX_BYTES + 1)
    except OSError as error:
        raise Invalid(str(path), f"cannot be read: {error.strerror}") from None
    return engine.read_conversation(data, str(path))


async def _run(run: ConversationRun, settings: Settings, caller: Caller, say: Any, *, lasting: bool) -> Ran:
    """Run one file: on the database of the settings, or on one that is gone afterwards."""
    with TemporaryDirectory(prefix="manent-run-") as folder:
        if not lasting:
            settings = in_folder(settings, folder)
        async with engine.open(
            settings, providers=run.providers, tools=run.tools, notice=notice if lasting else None
        ) as chat:
            model = run.model or chat.default_model
            say(f"{printable(run.file.name)} on {one_line(run.title_of(model))}", bold=True)
            checks: list[TurnCheck] = []
            async for check in run.turns(chat, caller=caller):
                if lasting and not checks:
                    say(f"  session {check.session_id}")
                checks.append(check)
                _show(check, run.file.name, say)
    return Ran(run.file.name, run.title_of(model), checks)


# --- what is shown ----------------------------------------------------------------------------------------------------


def _show(check: TurnCheck, file: str, say: Any) -> None:
    """One line for the turn, and one for each thing that is not as it was expected."""
    mark, colour = ("ok  ", "green") if check.passed else ("FAIL", "red")
    say(f"  {mark} turn {check.number}: {_short(check.user)}", fg=colour)
    for line in _complaints(check, file):
        say(f"       {line}")


def _complaints(check: TurnCheck, file: str) -> Iterator[str]:
    if check.failure is not None:
        yield f"{printable(file)}:{check.line}: {_short(check.failure)}"
    for each in check.unmet:
        yield f"{printable(file)}:{each.line}:{each.column}: {_complaint(each)}"


def _complaint(unmet: Unmet) -> str:
    return f"{one_line(unmet.expectation)}: expected {_shown(unmet.expected)}, came {_shown(unmet.came)}"


def _shown(value: Any) -> str:
    return "nothing" if value is msgspec.UNSET else _short(msgspec.json.encode(value).decode())


def _short(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= MAX_SHOWN_CHARS else f"{line[:MAX_SHOWN_CHARS]}… ({len(text)} characters)"


# --- what is written --------------------------------------------------------------------------------------------------


def _cases(ran: Ran) -> Iterator[Case]:
    for check in ran.checks:
        complaints = "\n".join(_complaints(check, ran.file)) or None
        failed = check.failure is not None
        yield Case(
            ran.file,
            f"turn {check.number}: {_short(check.user)}",
            check.seconds,
            failure=None if failed else complaints,
            error=complaints if failed else None,
        )


def _as_json_text(ran: list[Ran]) -> bytes:
    checks = [check for each in ran for check in each.checks]
    said = {
        "passed": sum(check.passed for check in checks),
        "failed": sum(not check.passed for check in checks),
        "files": [
            {"file": each.file, "model": each.model, "turns": [_as_json(check) for check in each.checks]}
            for each in ran
        ],
    }
    return msgspec.json.encode(said) + b"\n"


def _as_json(check: TurnCheck) -> dict[str, Any]:
    return {"passed": check.passed} | {name: getattr(check, name) for name in check.__struct_fields__}


def _check_folder(given: str | None) -> None:
    """Raises Invalid for a file that cannot be one, or whose folder is not there: before anything has run."""
    if given is None or given == STANDARD_OUTPUT:
        return
    if Path(given).is_dir():
        raise Invalid(given, "cannot be written: it is a folder")
    if not Path(given).parent.is_dir():
        raise Invalid(given, "cannot be written: there is no such folder")


def _write(place: str, data: bytes) -> None:
    if place == STANDARD_OUTPUT:
        click.echo(data, nl=False)
        return
    try:
        Path(place).write_bytes(data)
    except OSError as error:
        raise Invalid(place, f"cannot be written: {error.strerror}") from None
