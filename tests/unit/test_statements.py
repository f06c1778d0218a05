"""Statements hold for every database: what SQLite runs today can be written for PostgreSQL, with the same values."""

import gc
from importlib import import_module
from pkgutil import walk_packages

from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from manent import engine
from manent.engine.log.journal import _owned
from manent.engine.log.sql.driver import Prepared, PreparedRows, compiled
from manent.engine.log.sql.reads import _of_session_and_types
from manent.engine.sessions.listing import _listing

SQLITE, POSTGRESQL = SQLiteDialect_pysqlite(), PGDialect_psycopg(paramstyle="format")
ROOMS = ("engine.log", "engine.audit", "engine.sessions")


def statements():
    """Every statement of the engine, those that are made when they are asked for among them."""
    for module in walk_packages(engine.__path__, "manent.engine."):
        if module.name.removeprefix("manent.").startswith(ROOMS):
            import_module(module.name)
    made = [_owned(2), _of_session_and_types(2)]
    made += [_listing(order, ("status",), goes_on=True) for order in ("activity", "created")]
    assert made
    return [each._statement for each in gc.get_objects() if isinstance(each, Prepared | PreparedRows)]


def given(statement, dialect):
    """The names of the values that a statement is given, in their order."""
    clause = statement(dialect) if callable(statement) else statement
    return clause.compile(dialect=dialect).positiontup


def test_every_statement_can_be_written_for_postgresql():
    """It is the same statement there, and takes the same values in the same order."""
    found = statements()
    assert len(found) > 90
    for statement in found:
        here, there = compiled(statement, SQLITE), compiled(statement, POSTGRESQL)
        values = given(statement, SQLITE)
        assert values == given(statement, POSTGRESQL)
        assert here.count("?") == there.count("%s") == len(values)
        assert "?" not in there
