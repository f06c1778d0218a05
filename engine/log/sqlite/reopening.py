"""Checks of a file before it is written again after a disk failure.

After a sync that failed, the operating system may hold pages as written that are nowhere: what is read is no proof of
what is there. So the connection is given up, and a new one may write only where every log still ends where the writer
had told somebody that it ends.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from ...errors import StoreCorrupt
from ..sql.driver import Prepared
from ..sql.tables import events, heads

_last = select(func.max(events.c.position)).where(events.c.tenant == heads.c.tenant).scalar_subquery()
_ends = Prepared(select(heads.c.tenant, heads.c.size, _last))


def check_ends(connection: Connection, acknowledged: Mapping[str, int]) -> None:
    """Raises StoreCorrupt where a log's head and its last event differ, or where it is shorter than what was
    acknowledged of it (tenant -> position).
    """
    sizes: dict[str, int] = {}
    for tenant, size, last in _ends(connection).fetchall():
        if size != last:
            raise StoreCorrupt(f"the head of the log {tenant} says {size} events, and the last is {last}")
        sizes[tenant] = size
    for tenant, position in acknowledged.items():
        if sizes.get(tenant, 0) < position:
            raise StoreCorrupt(f"the log {tenant} ends at {sizes.get(tenant, 0)}, and {position} was acknowledged")
