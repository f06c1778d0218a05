"""Verifying forks: the history that each shares is there, and was there before it."""

from __future__ import annotations

from contextlib import closing
from uuid import UUID

import msgspec

from ...errors import Broken
from ...log.base import Connection
from ...log.codec import MAX_SAFE_INTEGER
from ...log.sql import scan
from ...log.sql.rows import session_id
from .leaves import UNREADABLE


class _Told(msgspec.Struct, frozen=True):
    """The part of a fork's facts that says where it comes from."""

    parent: UUID
    parent_version: int


def check_forks(connection: Connection, tenant: str) -> None:
    """Check that the parent of each fork has the version that its facts name, at an earlier position of the same log,
    and that the fork goes on from there. Raises Broken.
    """
    with closing(scan.forks(connection, tenant)) as forks:
        for position, session, version, facts in forks:
            try:
                told = msgspec.json.decode(facts, type=_Told)
                sound = _goes_on(connection, tenant, told, (position, session_id(session), version))
            except UNREADABLE:
                raise Broken(
                    f"position {position} does not say what it forks", tenant=tenant, position=position
                ) from None
            if not sound:
                what = f"position {position} forks version {told.parent_version} of session {told.parent}"
                raise Broken(f"{what}, which does not stand before it", tenant=tenant, position=position)


def _goes_on(connection: Connection, tenant: str, told: _Told, fork: tuple[int, UUID, int]) -> bool:
    position, session, version = fork
    if not 1 <= told.parent_version <= MAX_SAFE_INTEGER or version != told.parent_version + 1:
        return False
    shared = scan.position_of(connection, tenant, told.parent, told.parent_version)
    begun = scan.position_of(connection, tenant, session, told.parent_version)
    return shared is not None and shared < position and begun is None
