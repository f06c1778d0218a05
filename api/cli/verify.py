"""``manent verify``."""

from __future__ import annotations

import sys
import time
from typing import Any

import click
import msgspec

from ...engine import Verified, verify_database
from .database import json_option
from .options import read_settings, settings_options
from .progress import progress


@click.command()
@click.option(
    "--key", "keys", multiple=True, help="Verifier key (name+hash+key) that must have signed.  [the key file's]"
)
@json_option
@settings_options("database", "checkpoint_file", "signing_key_file")
def verify(*, as_json: bool, keys: tuple[str, ...], **options: Any) -> None:
    """Verify the whole database and its checkpoints; exit code 1 if something is wrong.

    Looks at every event, body and hash, the tree, the sessions, every checkpoint in the database and outside, the
    tables that are derived, the guards, and the file. Names the first position that is wrong, and what is wrong with
    it. Changes nothing, and works beside a running server.

    The newest checkpoint must be signed by the key given with --key, else by MANENT_VERIFY_KEY, else by the key file
    beside the database. Where there is none of them, it says "signer not checked".
    """
    settings, begun_s = read_settings(options | {"verify_key": " ".join(keys) or None}), time.monotonic()
    with progress("verifying", "verified") as tell:
        # Every event is looked at twice: as it was hashed, and as the derived tables show it.
        verified = verify_database(settings, lambda done, total: tell(done // 2, total // 2))
    if as_json:
        ok = {"database": settings.database, "ok": verified.problem is None}
        click.echo(msgspec.json.encode(ok | msgspec.structs.asdict(verified)).decode())
    else:
        _print(settings.database, verified, time.monotonic() - begun_s)
    sys.exit(0 if verified.problem is None else 1)


def _print(database: str, verified: Verified, seconds: float) -> None:
    for remark in verified.remarks:
        click.echo(remark)
    if verified.problem is not None:
        place = f"{verified.tenant}: " if verified.tenant else ""
        click.secho(f"{database}: BROKEN: {place}{verified.problem}", fg="red", bold=True)
        return
    for each in verified.unwitnessed:
        click.echo(
            f"{each.tenant}: unwitnessed since {each.since}, of {each.size}: no checkpoint outside covers the rest"
        )
    counted = f"{verified.events} events ({verified.erased} erased), {verified.checkpoints} checkpoints"
    signer = "signer not checked" if verified.signer is None else f"signed by the key {verified.signer}"
    click.echo(f"{database}: verified {counted} in {seconds:.2f} s, {signer}")
