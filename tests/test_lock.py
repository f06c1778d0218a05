"""The lock: what serving needs stands apart from what only tests need, and neither knows of what is left out.

The parts are held against what the installed packages say that they need, from ``pyproject.toml`` down.
"""

import re
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.environment import locked

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS, GROUPS = PROJECT["project"]["optional-dependencies"], PROJECT["dependency-groups"]
LEFT_OUT = set(PROJECT["tool"]["uv"]["exclude-dependencies"])
NOWHERE = {"llm", "llama-cpp-python"}


@cache
def needs(name, extras):
    """What an installed package says that it needs here. A package for another platform needs nothing."""
    try:
        lines = distribution(name).requires or []
    except PackageNotFoundError:
        return []
    requirements = map(Requirement, lines)
    return [
        each
        for each in requirements
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    ]


def closure(lines):
    """The names of all packages that these requirements bring here."""
    found, open_ = {}, [Requirement(line) for line in lines]
    while open_:
        need = open_.pop()
        name = canonicalize_name(need.name)
        before = found.get(name)
        if name in LEFT_OUT or (need.marker and not need.marker.evaluate({"extra": ""})):
            continue
        if before is None or not need.extras <= before:
            found[name] = frozenset(need.extras | (before or set()))
            open_ += needs(name, found[name])
    return set(found)


def there(names):
    """Of these names, those that are installed: the lock is for all platforms."""
    return {name for name in names if needs(name, frozenset()) or _is_installed(name)}


def _is_installed(name):
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


SERVING = PROJECT["project"]["dependencies"] + EXTRAS["mcp"] + GROUPS["install"]
DEVELOPING = [line for line in GROUPS["dev"] if isinstance(line, str)]


def test_serving_has_what_serving_needs_and_no_more():
    """Each package of the part for serving is needed by the runtime, by MCP or to install the project, and is there."""
    assert there(locked("serving")) == closure(SERVING)


def test_the_local_model_is_two_packages():
    """The part for the local model holds what the extra names, and nothing that those packages' own code would need."""
    assert set(locked("local model")) == closure(EXTRAS["local"]) - set(locked("serving"))


def test_tests_have_what_they_need_beside_it():
    """The part for tests holds the rest of what developing needs, and nothing that serving has."""
    served = {*locked("serving"), *locked("local model")}
    assert there(locked("tests")) == closure(DEVELOPING) - served
    assert served.isdisjoint(locked("tests"))
    asked_for = {canonicalize_name(Requirement(line).name) for line in DEVELOPING}
    assert asked_for - set(locked("tests")) <= closure(SERVING)


def test_what_is_left_out_is_nowhere():
    """Neither the lock nor a plain `pip install manent` brings another framework for models or another llama.cpp."""
    pinned = {*locked("serving"), *locked("local model"), *locked("tests")}
    assert NOWHERE <= LEFT_OUT
    assert pinned.isdisjoint(LEFT_OUT)
    plain = re.findall(r"[\w.-]+", " ".join(PROJECT["project"]["dependencies"]))
    assert NOWHERE.isdisjoint({*plain, *closure(PROJECT["project"]["dependencies"])})
