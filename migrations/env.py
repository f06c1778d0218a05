"""Runs the migrations on the connection that ``engine.log.sqlite.schema`` hands over.

From the command line of alembic itself the database comes from ``MANENT_DATABASE``, as everywhere else.
"""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection

from manent.engine.log.sql.tables import metadata
from manent.engine.log.sqlite.connection import database_path, open_writer
from manent.engine.log.sqlite.schema import make_guards
from manent.engine.sessions import tables as _projections  # noqa: F401 - they join the same metadata

target_metadata = metadata


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=target_metadata, transaction_per_migration=False)
    with context.begin_transaction():
        context.run_migrations()
        make_guards(connection)  # SQLite drops the triggers of every table that a revision makes anew


def main() -> None:
    given: Connection | None = context.config.attributes.get("connection")
    if given is not None:
        run(given)
        return
    engine = open_writer(database_path(os.environ.get("MANENT_DATABASE", "manent.db")), may_change_schema=True)
    with engine.begin() as connection:
        run(connection)


main()
