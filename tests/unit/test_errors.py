"""The error tree: every error has a stable code, and the list of public names is what is there."""

import inspect
import re

from manent import engine
from manent.engine import errors
from manent.engine.errors import BudgetTooSmall, EngineError, Invalid, ProviderError, VersionConflict

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, EngineError)]


def test_every_error_has_a_code_of_its_own():
    """Clients branch on codes: stable snake_case, none used twice."""
    codes = [kind.code for kind in ALL]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


def test_every_error_is_drawn_in_the_tree():
    """The drawing at the top of the file names every class."""
    drawn = set(re.findall(r"[A-Z]\w+", errors.__doc__))
    assert {kind.__name__ for kind in ALL} <= drawn


def test_errors_carry_their_members():
    """A sentence, and the members that go with the code; a field's refusal names it in both."""
    error = Invalid("title", "is too long", maximum=5)
    assert (error.detail, error.code, error.extra) == (
        "title: is too long",
        "invalid_value",
        {"field": "title", "maximum": 5},
    )
    assert Invalid("x", "y", code="other").code == "other"
    assert Invalid.code == "invalid_value"
    conflict = VersionConflict("moved on", current_version=7)
    assert (conflict.current_version, conflict.extra, str(conflict)) == (7, {"current_version": 7}, "moved on")
    assert BudgetTooSmall("no", required_tokens=2).extra == {"required_tokens": 2}


def test_what_upstream_said_is_not_a_member():
    """Status and vendor's code are for the record; nothing of them goes to a client by itself."""
    error = ProviderError("gone", status=500, vendor_code="x", request_id="r", retry_after_s=2.0, upstream="<html>")
    assert (error.extra, str(error), error.upstream) == ({}, "gone", "<html>")


def test_what_is_public_is_there():
    """Every public name of the engine exists, and nothing is defined in the package's own file."""
    assert [name for name in engine.__all__ if not hasattr(engine, name)] == []
    assert all(
        getattr(engine, name).__module__ != "engine"
        for name in engine.__all__
        if hasattr(getattr(engine, name), "__module__")
    )
