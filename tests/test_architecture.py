"""Keeps the architecture: who imports whom, what stays pure, how long things may get, what may stand in the checkout.

The rules are data, at the top. They read source text and never import it, so a file that does not exist yet breaks
none. Every offence is named by file and line. At the bottom each rule is fed text that breaks it, and must see it.
"""

import ast
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache, cached_property
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# --- the rules, as data -----------------------------------------------------------------------------------------------

ROOMS = (
    # Who may stand on whom, from the ground up: a room imports from lower lines and from itself, never from its own
    # line's other rooms and never upwards.
    "engine.errors engine.clock",
    "engine.settings engine.events",
    "engine.log engine.providers",
    "engine.access engine.audit engine.tools engine.sessions",
    "engine.context engine.streams",
    "engine.turns",
    "engine.service",
    "engine.bootstrap",
    "engine",
    "api migrations",
    "scripts",
    "tests",
)
FLOORS = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms.split()}
MOST_ROOMS, MOST_FLOORS = 15, 9

API_ROOMS = (
    "api.garbage_collection api.observability api.http api.schemas api.routes api.compat api.openapi api.app "
    "api.announcement api.server api.cli api.testing"
)
"""The same inside ``api/``, one room a line."""

CONFINED = {  # a library -> the only files that may import it
    "aiohttp": ("engine/providers/wire/http.py", "engine/providers/wire/transport.py"),
    "cryptography": ("engine/audit/*",),
    "alembic": ("engine/log/sqlite/*", "migrations/*"),
    "httpx": ("engine/providers/wire/http.py", "engine/providers/wire/transport.py"),
    "httpx2": ("engine/tools/mcp/client.py",),
    "httpx_aiohttp": ("engine/providers/wire/http.py", "engine/providers/wire/transport.py"),
    "litestar": ("api/*",),
    "mcp": ("engine/tools/mcp/client.py",),
    "mcp_types": ("engine/tools/mcp/client.py",),
    "sqlalchemy": (
        "engine/log/*",
        "engine/sessions/aliases.py",
        "engine/sessions/answers.py",
        "engine/sessions/copies.py",
        "engine/sessions/family.py",
        "engine/sessions/forks.py",
        "engine/sessions/listing.py",
        "engine/sessions/marks.py",
        "engine/sessions/messages.py",
        "engine/sessions/prefixes.py",
        "engine/sessions/projector.py",
        "engine/sessions/queries.py",
        "engine/sessions/replays.py",
        "engine/sessions/retries.py",
        "engine/sessions/siblings.py",
        "engine/sessions/snapshots.py",
        "engine/sessions/tables.py",
        "engine/sessions/unstored.py",
        "migrations/*",
    ),
    "sqlite3": ("engine/log/sqlite/*", "scripts/*"),
    "uvicorn": ("api/*",),
    "yaml": ("engine/service/conversation_files/tree.py",),
}

# SQL is run in one way, ``log.sql.driver``, and written in SQLAlchemy's terms, so that it holds for every database.
# Text that only SQLite understands stands in the one place, and in the history of its schema.
SQL_TEXT_MAY_STAND_IN = ("engine/log/sqlite/*", "migrations/*")
SQL_IS_RUN_BY = ("engine/log/sql/driver.py",)
SQL_DIALECTS_ARE_KNOWN_TO = ("engine/log/sql/clauses.py",)
SQL_TEXT = re.compile(
    r"\s*(SELECT|INSERT|REPLACE|UPDATE \w+ SET|DELETE FROM|WITH \w+ AS|PRAGMA|BEGIN|COMMIT|ROLLBACK|SAVEPOINT|"
    r"CREATE \w+|DROP \w+|ALTER \w+)\b.*[ ;]|.*(= \?|\bPRAGMA\b)",
    re.DOTALL,
)
SQL_CALLS = {"exec_driver_sql", "execute", "executemany", "executescript"}

# The log could leave the house as a library of its own: these files know nothing of chat.
CHATLESS = ("engine/audit/*", "engine/log/*")
CHATLESS_MAY_IMPORT = "engine.audit engine.clock engine.errors engine.log engine.settings"

PURE = (  # no clock, no chance, no I/O, no waiting
    "engine/events/* engine/log/codec.py engine/log/merkle.py engine/providers/tokens.py engine/sessions/decisions.py "
    "engine/sessions/replay_state.py engine/sessions/replay_decisions.py engine/sessions/state.py "
    "engine/sessions/turn_decisions.py engine/sessions/turn_state.py engine/context/window.py "
    "engine/context/derive.py engine/streams/transcript.py engine/service/conversation_files/base.py "
    "engine/service/conversation_files/tree.py engine/service/conversation_files/paths.py "
    "engine/service/conversation_files/reading.py engine/service/conversation_files/expectations.py"
)
IMPURE_IMPORTS = (
    "anyio asyncio httpx io logging os pathlib random secrets select selectors shutil socket sqlalchemy sqlite3 ssl "
    "subprocess tempfile threading time urllib.request uuid.uuid1 uuid.uuid4"
)
IMPURE_CALLS = {"open", "print", "input"}
IMPURE_METHODS = {"now", "today", "utcnow", "uuid1", "uuid4"}

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400
LONGER_FILES = {  # with the reason
    "engine/audit/bundle/verify_bundle.py": 500,  # it goes out alone, into every bundle, and can import nothing of ours
}

PRODUCT = ("engine/*", "api/*", "migrations/*", "scripts/*")

TOP_LEVEL = (
    "pyproject.toml engine migrations api tests scripts README.md CHANGELOG.md LICENSE requirements.lock .ci .src "
    ".gitignore"
)

REGISTRIES = (  # with gaps, so that this line names none
    "pypi_org pythonhosted_org npmjs_org npmjs_com yarnpkg_com debian_org/debian crates_io proxy_golang_org maven_org"
)
MACHINE_PATH = re.compile(r"(?<![\w.:~/$}-])/(?:(?:root|work|home|Users|opt|mnt)/\w|tmp/\w+/\w)[\w/]*")
PIN = re.compile(r"[a-z0-9-]+==[0-9a-z.+!-]+( ; [^:/]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
PARTS_OF_THE_LOCK = ("# serving", "# local model", "# tests")


# --- sources and offences ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """A file of the checkout: its path from the top, and its text."""

    path: str
    text: str

    @cached_property
    def nodes(self):
        """All nodes of its syntax tree; none if it is no Python."""
        python = self.path.endswith(".py") or re.match(r"#!.*\bpython", self.text)
        return list(ast.walk(ast.parse(self.text, self.path))) if python else []

    @cached_property
    def module(self):
        """Its dotted name; a package goes by the name of its folder."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @cached_property
    def imports(self):
        """(line, dotted name) of all it imports, as far as the text tells: ``from a import b`` is ``a.b``."""
        found = []
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found += [(node.lineno, alias.name.removeprefix("manent.")) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                package = ["manent", *self.module.split("."), *["__init__"] * self.path.endswith("__init__.py")]
                base = ".".join(package[: -node.level] if node.level else []) + "." * bool(node.level and node.module)
                names = [f"{base}{node.module or ''}.{alias.name}" for alias in node.names]
                found += [(node.lineno, name.removeprefix("manent.").removeprefix(".")) for name in names]
        return found

    def is_in(self, patterns):
        """Whether one of the patterns matches its path."""
        return any(fnmatch(self.path, pattern) for pattern in patterns)

    def offence(self, line, message):
        """What a developer reads."""
        return f"{self.path}:{line}: {message}"


def is_below(name, parents):
    """Whether a dotted name is one of the parents or below one."""
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


def nearest(name, known):
    """The longest part of a dotted name, from its start, that is known; None if none is."""
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in known), None)


def product(sources):
    """The code that ships, and the developer's commands."""
    return [source for source in sources if source.is_in(PRODUCT)]


@cache
def read_checkout():
    """All files that are, or could be, committed."""
    git = shutil.which("git") if (ROOT / ".git").exists() else None
    command = [git or "false", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    paths = sorted({*filter(None, listed.stdout.split("\0"))}) if listed.returncode == 0 else sorted(walk_checkout())
    return [
        Source(path, (ROOT / path).read_text("utf-8", errors="replace")) for path in paths if (ROOT / path).is_file()
    ]


def walk_checkout():
    """The same without git: an unpacked archive, a copy."""
    lines = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    ignored = [".git", *(line.strip("/") for line in lines if line and not line.startswith("#"))]
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not any(fnmatch(name, pattern) for pattern in ignored)]
        kept = [name for name in files if not any(fnmatch(name, pattern) for pattern in ignored)]
        yield from ((Path(folder) / name).relative_to(ROOT).as_posix() for name in kept)


# --- the rules --------------------------------------------------------------------------------------------------------


def room_of(name, rooms):
    """The room that a module or a name stands in; None: it is not of this house."""
    return nearest(name, rooms)


def rooms_stand_on_lower_rooms(sources):
    """A room imports from lower floors and from itself only."""
    for source in product(sources):
        own = room_of(source.module, FLOORS)
        if not source.nodes:
            continue
        if own is None or (own == "engine" and source.module != "engine"):
            yield source.offence(1, f"{source.module} stands in no room: give it one in ROOMS")
        else:
            above = {
                (line, room) for line, name in source.imports if (room := room_of(name, FLOORS)) not in {None, own}
            }
            for line, room in sorted(above):
                if FLOORS[room] >= FLOORS[own]:
                    yield source.offence(line, f"{own} may not stand on {room}")


def the_api_has_floors_too(sources):
    """Inside ``api/`` each room stands on those named before it."""
    floors = {room: floor for floor, room in enumerate(API_ROOMS.split())}
    for source in sources:
        own = nearest(source.module, floors) if source.is_in(("api/*",)) else None
        for line, name in source.imports if own else ():
            room = nearest(name, floors)
            if room is not None and floors[room] > floors[own]:
                yield source.offence(line, f"{own} may not stand on {room}")


def the_api_uses_public_names(sources):
    """The API takes from the engine what the engine exports, as anybody else would."""
    for source in sources:
        for line, name in source.imports if source.is_in(("api/*",)) else ():
            if name.startswith("engine.") and name.count(".") > 1:
                yield source.offence(line, f"{name} is not a public name of the engine")


def packages_import_each_other_relatively(sources):
    """They are installed below one name, which they do not have to know; revisions are loaded by path and do."""
    for source in sources:
        by_path = source.is_in(("migrations/env.py", "migrations/versions/*"))
        for node in source.nodes if source.is_in(("engine/*", "api/*", "migrations/*")) and not by_path else ():
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            if any(is_below(name, ("manent", "engine", "api", "migrations")) for name in names):
                yield source.offence(node.lineno, "packages of this project import each other relatively")


def nothing_imports_in_circles(sources):
    """No two modules need each other."""
    modules = {source.module: source for source in product(sources) if source.nodes}
    graph = {
        name: {target for _, import_ in source.imports if (target := nearest(import_, modules)) and target != name}
        for name, source in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]  # each is imported by the next
        needed, needing = max(pairwise(circle), key=lambda pair: pair[1])
        source = modules[needing]
        line = next(line for line, name in source.imports if nearest(name, modules) == needed)
        yield source.offence(line, f"imports go in a circle: {' <- '.join(circle)}")


def libraries_stay_in_their_place(sources):
    """Each library is imported by the files that it is for."""
    for source in product(sources):
        for line, library in sorted({(line, name.split(".")[0]) for line, name in source.imports}):
            if library in CONFINED and not source.is_in(CONFINED[library]):
                yield source.offence(line, f"{library} may be imported in {', '.join(CONFINED[library])} only")


def the_log_knows_nothing_of_chat(sources):
    """The store, the codec and the audit could be a library of their own."""
    for source in sources:
        for line, name in source.imports if source.is_in(CHATLESS) else ():
            own = is_below(name, ("engine", "api", "scripts", "tests"))
            if own and not is_below(name, CHATLESS_MAY_IMPORT.split()):
                yield source.offence(line, f"the log may not know of {name}")


def sql_is_run_in_one_way(sources):
    """Statements are prepared, hold for every database, and go through one door."""
    for source in sources:
        if not source.is_in(("engine/*", "api/*")) or source.is_in(SQL_TEXT_MAY_STAND_IN):
            continue
        for line, name in source.imports:
            if is_below(name, ("sqlalchemy.dialects",)) and not source.is_in(SQL_DIALECTS_ARE_KNOWN_TO):
                yield source.offence(line, f"{name} is one database's")
        docstrings = {id(node.value) for node in source.nodes if isinstance(node, ast.Expr)}
        for node in source.nodes:
            if isinstance(node, ast.Attribute) and node.attr in SQL_CALLS and not source.is_in(SQL_IS_RUN_BY):
                yield source.offence(node.lineno, f".{node.attr} is not how SQL is run: see log.sql.driver.Prepared")
            text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
            if text and SQL_TEXT.match(node.value):
                yield source.offence(node.lineno, "SQL as text, which not every database understands")


def no_import_inside_a_function(sources):
    """What a file needs stands at its top."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for source in product(sources):
        inside = {
            node.lineno
            for function in source.nodes
            if isinstance(function, functions)
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        yield from (source.offence(line, "an import inside a function") for line in sorted(inside))


def pure_files_are_pure(sources):
    """The part that decides, folds, chooses and hashes has no clock, no chance, no I/O and does not wait."""
    waiting = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
    for source in sources:
        if not source.is_in(PURE.split()):
            continue
        for line, name in source.imports:
            if is_below(name, IMPURE_IMPORTS.split()):
                yield source.offence(line, f"a pure file imports {name}")
        for node in source.nodes:
            if isinstance(node, waiting):
                yield source.offence(node.lineno, "a pure file waits")
            elif isinstance(node, ast.Attribute) and node.attr in IMPURE_METHODS:
                yield source.offence(node.lineno, f"a pure file uses .{node.attr}")
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
                yield source.offence(node.lineno, f"a pure file calls {node.func.id}")


def nothing_gets_long(sources):
    """Functions and files stay readable at one sitting."""
    for source in product(sources):
        lines, most = source.text.count("\n"), LONGER_FILES.get(source.path, MAX_FILE_LINES)
        if source.nodes and lines > most:
            yield source.offence(most + 1, f"{lines} lines; {most} are the most")
        for node in source.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    yield source.offence(node.lineno, f"{node.name}: {length} lines; {MAX_FUNCTION_LINES} are the most")


def the_top_level_is_the_users(sources):
    """Nothing new appears beside the folders that were agreed on."""
    for source in sources:
        if source.path.split("/")[0] not in TOP_LEVEL.split():
            yield source.offence(1, "not a name of the agreed top level")


def files_name_no_registry_and_no_machine(sources):
    """What is committed holds on every machine and behind every mirror."""
    registries = REGISTRIES.replace("_", ".").split()
    for source in sources:
        for number, line in enumerate(source.text.splitlines(), 1):
            yield from (source.offence(number, f"names the registry {host}") for host in registries if host in line)
            yield from (source.offence(number, f"names the path {path}") for path in MACHINE_PATH.findall(line))


def the_lock_holds_pins_only(sources):
    """Names, versions, markers and hashes, below the titles of its parts; no address."""
    for source in sources:
        lines = source.text.splitlines() if source.path == "requirements.lock" else []
        for number, line in enumerate(lines, 1):
            if line not in PARTS_OF_THE_LOCK and not PIN.fullmatch(line):
                yield source.offence(number, f"neither a pin nor a hash: {line}")


def settings_are_described(sources):
    """Every setting says what it is for: `manent serve --help` prints it."""
    for source in sources:
        classes = [node for node in source.nodes if isinstance(node, ast.ClassDef) and node.name == "Settings"]
        for field in classes[0].body if source.path == "engine/settings.py" and classes else ():
            if not isinstance(field, ast.AnnAssign) or "ClassVar" in ast.unparse(field.annotation):
                continue
            given = [node for node in ast.walk(field.annotation) if isinstance(node, ast.keyword)]
            if not any(node.arg == "description" and ast.unparse(node.value).strip("'\"") for node in given):
                yield source.offence(field.lineno, f"the setting {ast.unparse(field.target)} has no description")


def every_test_says_what_it_shows(sources):
    """Every test states in a sentence what must hold."""
    for source in sources:
        if not source.is_in(["tests/test_*.py", "tests/*/test_*.py"]):
            continue
        for node in source.nodes:
            is_test = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
            if is_test and not ast.get_docstring(node):
                yield source.offence(node.lineno, f"{node.name} has no docstring")


# --- the tests --------------------------------------------------------------------------------------------------------

RULES = (
    rooms_stand_on_lower_rooms,
    the_api_has_floors_too,
    the_api_uses_public_names,
    packages_import_each_other_relatively,
    nothing_imports_in_circles,
    libraries_stay_in_their_place,
    the_log_knows_nothing_of_chat,
    sql_is_run_in_one_way,
    no_import_inside_a_function,
    pure_files_are_pure,
    nothing_gets_long,
    the_top_level_is_the_users,
    files_name_no_registry_and_no_machine,
    the_lock_holds_pins_only,
    settings_are_described,
    every_test_says_what_it_shows,
)

OFFENDING = [  # rule, path, text, offending line
    (rooms_stand_on_lower_rooms, "engine/events/types.py", "import json\nfrom ..log.codec import canonical\n", 2),
    (rooms_stand_on_lower_rooms, "engine/settings.py", "from .events.types import Facts\n", 1),
    (rooms_stand_on_lower_rooms, "engine/errors.py", "from . import clock\n", 1),
    (rooms_stand_on_lower_rooms, "engine/log/store.py", "\nfrom ..providers import base\n", 2),
    (rooms_stand_on_lower_rooms, "engine/log/sql/reads.py", "from ...turns.turn import Turn\n", 1),
    (rooms_stand_on_lower_rooms, "engine/log/__init__.py", "from ..audit import proof\n", 1),
    (rooms_stand_on_lower_rooms, "engine/audit/proof.py", "from ..sessions.state import SessionState\n", 1),
    (rooms_stand_on_lower_rooms, "engine/context/plan.py", "from ..streams.frames import Frame\n", 1),
    (rooms_stand_on_lower_rooms, "engine/streams/follow.py", "from ..turns.turn import Turn\n", 1),
    (rooms_stand_on_lower_rooms, "engine/turns/turn.py", "from ..service.engine import Engine\n", 1),
    (rooms_stand_on_lower_rooms, "engine/service/engine.py", "from .. import bootstrap\n", 1),
    (rooms_stand_on_lower_rooms, "engine/service/export.py", "from .. import Engine\n", 1),
    (rooms_stand_on_lower_rooms, "engine/bootstrap.py", "if TYPE_CHECKING:\n    from ..api import app\n", 2),
    (rooms_stand_on_lower_rooms, "engine/__init__.py", "from tests.support import fake\n", 1),
    (rooms_stand_on_lower_rooms, "engine/unheard_of.py", "import json\n", 1),
    (the_api_has_floors_too, "api/http/errors.py", "from ..routes import turns\n", 1),
    (the_api_has_floors_too, "api/routes/turns.py", "from ..cli.main import main\n", 1),
    (the_api_uses_public_names, "api/routes/turns.py", "from ...engine.sessions import queries\n", 1),
    (packages_import_each_other_relatively, "engine/log/store.py", "from manent.engine.log import base\n", 1),
    (packages_import_each_other_relatively, "api/app.py", "import json\nimport engine\n", 2),
    (nothing_imports_in_circles, "engine/providers/tokens.py", "import json\nfrom .registry import resolve\n", 2),
    (libraries_stay_in_their_place, "engine/sessions/state.py", "import sqlalchemy.exc as sa\n", 1),
    (libraries_stay_in_their_place, "engine/providers/openai/chat.py", "\nfrom httpx import Client\n", 2),
    (libraries_stay_in_their_place, "api/cli/main.py", "import alembic\n", 1),
    (libraries_stay_in_their_place, "scripts/load", "#!/usr/bin/env python3\nimport uvicorn\n", 2),
    (the_log_knows_nothing_of_chat, "engine/log/store.py", "from ..events import types\n", 1),
    (the_log_knows_nothing_of_chat, "engine/audit/proof.py", "\nfrom ..events.types import Facts\n", 2),
    (libraries_stay_in_their_place, "engine/log/compare.py", "import sqlite3\n", 1),
    (sql_is_run_in_one_way, "engine/log/writer.py", "def f(c):\n    c.exec_driver_sql(text)\n", 2),
    (sql_is_run_in_one_way, "engine/sessions/queries.py", "def f(c):\n    return c.execute(query)\n", 2),
    (sql_is_run_in_one_way, "engine/log/append.py", "\nPROBE = 'PRAGMA user_version = 0'\n", 2),
    (sql_is_run_in_one_way, "engine/sessions/erasure.py", "TEXT = 'UPDATE turns SET state = :state'\n", 1),
    (sql_is_run_in_one_way, "engine/service/export.py", "def f(table):\n    return f'SELECT * FROM {table}'\n", 2),
    (sql_is_run_in_one_way, "engine/sessions/tables.py", "WHERE = 'tenant = ? AND turn = ?'\n", 1),
    (sql_is_run_in_one_way, "engine/sessions/projector.py", "from sqlalchemy.dialects.sqlite import insert\n", 1),
    (no_import_inside_a_function, "api/cli/main.py", "def main():\n    if True:\n        import json\n", 3),
    (
        no_import_inside_a_function,
        "scripts/replay.py",
        "class A:\n    async def b(self):\n        from c import d\n",
        3,
    ),
    (pure_files_are_pure, "engine/providers/tokens.py", "from time import monotonic\n", 1),
    (pure_files_are_pure, "engine/sessions/decisions.py", "from uuid import UUID, uuid4\n", 1),
    (pure_files_are_pure, "engine/log/codec.py", "from datetime import datetime as d\nat = d.now()\n", 2),
    (pure_files_are_pure, "engine/context/window.py", "async def choose(): ...\n", 1),
    (pure_files_are_pure, "engine/events/upcasts.py", "def read(path):\n    return open(path)\n", 2),
    (nothing_gets_long, "engine/turns/turn.py", "\ndef run():\n" + "    pass\n" * MAX_FUNCTION_LINES, 2),
    (nothing_gets_long, "api/http/sse.py", "pass\n" * (MAX_FILE_LINES + 1), MAX_FILE_LINES + 1),
    (nothing_gets_long, "engine/audit/bundle/verify_bundle.py", "pass\n" * 501, 501),
    (the_top_level_is_the_users, "docs/index.md", "# Manual\n", 1),
    (files_name_no_registry_and_no_machine, "README.md", "\nSee https://" + "pypi" + ".org/manent.\n", 2),
    (files_name_no_registry_and_no_machine, "scripts/bench", "cd " + "/home" + "/ann\n", 1),
    (files_name_no_registry_and_no_machine, "engine/clock.py", "HERE = '" + "/work" + "/main'\n", 1),
    (the_lock_holds_pins_only, "requirements.lock", "--index-url https://index.example/simple\n", 1),
    (the_lock_holds_pins_only, "requirements.lock", "a==1 \\\n    --hash=sha256:" + 64 * "0" + "\nb>=1\n", 3),
    (the_lock_holds_pins_only, "requirements.lock", "# tests\n# found at https://index.example/simple\n", 2),
    (the_lock_holds_pins_only, "requirements.lock", "a @ file:///wheels/a.whl \\\n", 1),
    (settings_are_described, "engine/settings.py", "class Settings:\n    port: Annotated[int, Meta(ge=0)] = 1\n", 2),
    (settings_are_described, "engine/settings.py", "class Settings:\n    a: Annotated[int, Meta(description='')]\n", 2),
    (every_test_says_what_it_shows, "tests/unit/test_a.py", "class TestA:\n    async def test_b(self): ...\n", 2),
]

BLAMELESS = [
    Source("README.md", "Open http://127.0.0.1:8000/api/work/1, or /usr/bin/python3, or ~/work/manent.\n"),
    Source(
        "requirements.lock", "# serving\na-b==1.0rc1 ; sys_platform == 'win32' \\\n    --hash=sha256:" + 64 * "0" + "\n"
    ),
    Source("engine/log/store.py", "import sqlalchemy\nfrom . import base\nfrom ..settings import Settings\n"),
    Source("engine/log/sqlite/lock.py", "import sqlite3\n\n\ndef f(c):\n    c.execute('PRAGMA optimize = ?')\n"),
    Source("api/routes/log.py", "METHODS = 'DELETE', 'SELECT'\n\n\ndef f():\n    'PRAGMA is not for here. Why = ?'\n"),
    Source("engine/sessions/decisions.py", "from datetime import datetime\nfrom .state import State\n"),
    Source("engine/settings.py", "class Settings:\n    a: Annotated[int, Meta(description='what')]\n"),
    Source("api/app.py", "import litestar\nfrom ..engine import Engine\n\n\nasync def f():\n    await g()\n"),
    Source("migrations/env.py", "import alembic\nfrom manent.engine.log.sql.tables import metadata\n"),
    Source("tests/unit/test_a.py", "import httpx\n\n\ndef test_a():\n    '''It holds.'''\n    import json\n"),
]


def test_the_engine_is_a_house_that_one_can_walk_through():
    """It has few rooms on few floors; each that is there is named, and each that is named is there."""
    named = {room for room in FLOORS if room.startswith("engine.")}
    assert len(named) <= MOST_ROOMS
    assert len({FLOORS[room] for room in named}) <= MOST_FLOORS
    there = {nearest(source.module, named) for source in product(read_checkout()) if source.nodes}
    assert named <= there


def test_the_drawing_shows_the_house_as_it_is():
    """The engine's README draws each room on its floor, and names files that are there."""
    text = (ROOT / "engine/README.md").read_text("utf-8")
    drawn = [{*line[:45].split()} for line in text.split("```")[1].strip("\n").splitlines()]
    floors = [{room.removeprefix("engine.") for room in line.split()} for line in ROOMS if line.startswith("engine")]
    assert drawn == [{"__init__"} if floor == {"engine"} else floor for floor in reversed(floors)]
    named = re.findall(r"`([\w/]+\.(?:py|md))`", text)
    assert [name for name in named if not (ROOT / "engine" / name).exists() and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_checkout_keeps(rule):
    """No file of the checkout breaks the rule."""
    if offences := list(rule(read_checkout())):
        pytest.fail("\n".join(offences), pytrace=False)


@pytest.mark.parametrize(("rule", "path", "text", "line"), OFFENDING)
def test_a_rule_sees_what_breaks_it(rule, path, text, line):
    """In a checkout with one offending line, that line is named, and no other."""
    counterpart = Source("engine/providers/registry.py", "from .tokens import count\n")
    (offence,) = rule([*BLAMELESS[:3], counterpart, Source(path, text)])
    assert offence.startswith(f"{path}:{line}: ")


def test_no_rule_blames_the_blameless():
    """What is allowed passes every rule."""
    assert [offence for rule in RULES for offence in rule(BLAMELESS)] == []


def test_every_rule_is_proven():
    """There is offending text for each rule, and the checkout was really read."""
    assert {rule for rule, *_ in OFFENDING} == set(RULES)
    assert {"pyproject.toml", "requirements.lock", "tests/test_architecture.py"} <= {s.path for s in read_checkout()}
