"""The triggers by which the database itself refuses to change what was written.

Each guarded table refuses UPDATE and DELETE. Each refuses, too, an INSERT that would take the place of a row:
``INSERT OR REPLACE`` deletes without firing DELETE triggers, so it must be stopped before it begins. A body may be
deleted once ``erasures`` names it, a document once ``erased_documents`` does. SQLite drops the triggers of a table that
a migration rebuilds, so every migration ends with ``GUARDS``.
"""

from __future__ import annotations


def _refuse(name: str, table: str, action: str, message: str, when: str = "") -> str:
    condition = f" WHEN {when}" if when else ""
    return f"CREATE TRIGGER {name} BEFORE {action} ON {table}{condition} BEGIN SELECT RAISE(ABORT, '{message}'); END"


def _exists(table: str, columns: tuple[str, ...], row: str) -> str:
    same = " AND ".join(f"{column} = {row}.{column}" for column in columns)
    return f"EXISTS (SELECT 1 FROM {table} WHERE {same})"  # noqa: S608 - names of our own tables


def _insert_only(table: str, *keys: tuple[str, ...]) -> dict[str, str]:
    taken = " OR ".join(_exists(table, key, "NEW") for key in keys)
    return {
        f"{table}_no_update": _refuse(f"{table}_no_update", table, "UPDATE", f"{table} cannot be changed"),
        f"{table}_no_delete": _refuse(f"{table}_no_delete", table, "DELETE", f"{table} cannot be deleted"),
        f"{table}_no_replace": _refuse(f"{table}_no_replace", table, "INSERT", f"{table} cannot be replaced", taken),
    }


def _insert_until_erased(table: str, key: tuple[str, ...], told_in: str) -> dict[str, str]:
    """As ``_insert_only``, but that a row may be deleted of which another table tells."""
    kept = f"NOT {_exists(told_in, key, 'OLD')}"
    name = f"{table}_no_delete"
    return {**_insert_only(table, key), name: _refuse(name, table, "DELETE", f"{table} cannot be deleted", kept)}


GUARDS: dict[str, str] = {
    **_insert_only("events", ("tenant", "position"), ("tenant", "id")),
    **_insert_until_erased("bodies", ("tenant", "position"), "erasures"),
    **_insert_only("erasures", ("tenant", "position")),
    **_insert_only("origins", ("tenant", "from_position", "origin")),
    **_insert_until_erased("documents", ("tenant", "digest"), "erased_documents"),
    **_insert_only("erased_documents", ("tenant", "digest")),
    **_insert_only("tiles", ("tenant", "level", "number")),
    **_insert_only("verifiers", ("tenant", "origin", "public")),
    **_insert_only("checkpoints", ("tenant", "origin", "size", "key_id")),
    **_insert_only("cosignatures", ("tenant", "origin", "size", "name", "key_id")),
}
"""Name of each trigger -> its statement."""


def guarded_table(statement: str) -> str:
    """The table that a guard's statement stands before."""
    return statement.partition(" ON ")[2].split(maxsplit=1)[0]
