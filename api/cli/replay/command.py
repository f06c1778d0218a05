"""``manent replay``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from .... import engine
from ....engine import Invalid, Result
from ..database import caller_for, tenant_option
from ..options import read_settings, settings_options
from ..place import read_api_key
from ..progress import progress
from ..terminal import notice
from .done import Baseline, Done, as_json, as_junit, is_finding, read_baseline, show, sum_up, write
from .local import replay_here
from .play import play_back
from .remote import RemoteReplays
from .wanted import CONDITIONS, Mode, Places, Wanted

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("sessions", nargs=-1, metavar="[SESSION]…")
@click.option(
    "--mode",
    type=click.Choice(["play", "recorded", "forced", "free"]),
    help="play: as it was shown; recorded: the log answers; forced: a model answers each turn on the recorded history; "
    "free: on its own.  [default: forced with --model, else recorded]",
)
@click.option("--model", help="Ask this model.  [default: each turn's own]")
@click.option("--repeat", type=click.IntRange(0, 20), default=0, help="Ask the recorded model so often before.")
@click.option("--suite", help="The turns of this suite.")
@click.option("--where", multiple=True, metavar="NAME=VALUE", help=f"Sessions by {', '.join(CONDITIONS)}; repeatable.")
@click.option("--tools", default="recorded", show_default=True, help="recorded, refuse, or live:NAME,NAME.")
@click.option("--jobs", type=click.IntRange(min=1), help="Turns at once.")
@click.option("--max-turns", type=click.IntRange(min=1), help="Refuse more turns than that.")
@click.option("--max-cost-micros", type=click.IntRange(min=1), help="Ask no more once so much is spent.")
@click.option("--resume", metavar="ID", help="Go on with a replay that was cut off.")
@click.option("--baseline", type=FILE, help="Differences that this file (of --json) knows are no findings.")
@click.option("--report", type=FILE, help="Write the report there, as one HTML page; - is standard output.")
@click.option("--junit", "junit_file", type=FILE, help="Write the results there, as JUnit's XML; - is standard output.")
@click.option("--json", "json_file", type=FILE, help="Write the results there, as JSON; - is standard output.")
@click.option("--pace", default="1x", show_default=True, help="Of --mode play: 1x as recorded, 4x faster, 0 at once.")
@click.option("--url", envvar="MANENT_URL", help="Replay on the server at this address.  [MANENT_URL]")
@click.option("--api-key-file", envvar="MANENT_API_KEY_FILE", type=FILE, help="File that holds the key for the server.")
@tenant_option
@settings_options("database", "script", "models_file")
@click.pass_context
def replay(  # noqa: PLR0913 - an option each
    context: click.Context,
    /,
    *,
    mode: Mode | None,
    pace: str,
    url: str | None,
    api_key_file: Path | None,
    baseline: Path | None,
    report: Path | None,
    junit_file: Path | None,
    json_file: Path | None,
    tenant: str,
    database: str | None,
    script: str | None,
    models_file: str | None,
    **wishes: Any,
) -> None:
    """Do recorded turns of some SESSIONs again, and tell how the answers compare.

    With --url on a server, over its API; else on the database file, which no server may have open, but for the modes
    that only read: play and recorded.

    Exit code 1 if an answer is not the recorded one (noise, and what --baseline knows, excepted), if every turn was
    skipped, or the replay did not do all of its turns.
    """
    wanted = Wanted(mode=mode or ("forced" if wishes["model"] else "recorded"), **wishes)
    wanted.check()
    speed = engine.read_pace(pace)
    if database is not None and context.get_parameter_source("url") is not ParameterSource.COMMANDLINE:
        url = None
    settings, caller = read_settings({"database": database, "script": script, "models_file": models_file}), None
    caller = caller_for(tenant)
    if wanted.mode == "play":
        if url is not None or len(wanted.sessions) != 1:
            raise Invalid("mode", "play takes one session of a database file")
        asyncio.run(play_back(settings, caller, wanted.sessions[0], speed))
        return
    places = Places(report, junit_file, json_file, baseline)
    places.check()
    known = read_baseline(baseline)

    def shown(result: Result) -> None:
        show(result, finding=is_finding(result, known), err=places.on_output)

    with progress("replaying", "replayed", "turns") as tell:
        if url is not None:
            remote = RemoteReplays(url, read_api_key(api_key_file))
            done = remote.replay(wanted, tell, shown, report=report is not None)
        else:
            done = asyncio.run(replay_here(settings, caller, wanted, tell, shown, report=report is not None))
    _finish(done, places, known)


def _finish(done: Done, places: Places, known: Baseline) -> None:
    findings = sum(is_finding(each, known) for each in done.results)
    sum_up(done, findings, err=places.on_output)
    if places.json is not None:
        write(places.json, as_json(done))
    if places.junit is not None:
        write(places.junit, as_junit(done, known))
    if places.report is not None and done.report is not None:
        write(places.report, done.report.encode())
    elif places.report is not None:
        raise Invalid("report", "there is none of a replay that is not on record")
    skipped = bool(done.results) and all(each.verdict == "skipped" for each in done.results)
    if skipped:
        notice("nothing was compared: every turn was skipped")
    if findings or skipped or not done.whole:
        sys.exit(1)
