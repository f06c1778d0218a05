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

LAYERS = (
    # From the ground up. A module imports from lower layers and from its own, and nothing imports in circles. A name
    # stands for what lies below it too, unless that has a place of its own.
    "migrations",  # the bare package: the place of its files
    "engine.errors",
    "engine.blocks engine.clock engine.settings engine.usage",
    "engine.events",
    "engine.content engine.cuts engine.money engine.version",
    "engine.codec engine.audit.merkle",
    "engine.projections.base engine.providers.base engine.store.base engine.tools.base",
    "engine.envelope engine.inputs engine.upcasts",
    "engine.audit engine.decisions engine.projections engine.providers engine.store engine.tokens engine.tools",
    "engine.views",
    "engine.answer engine.intake engine.planning engine.tail",
    "engine.audience engine.endings engine.foreign engine.story",
    "engine.recorder engine.rounds",
    "engine.attempts engine.calls engine.past engine.retries",
    "engine.turns",
    "engine.supervisor",
    "engine.asking engine.reading_along engine.record",
    "engine.deciding engine.paging engine.repeats",
    "engine.desk",
    "engine.conversation",
    "engine.erasure engine.exporting engine.replay",
    "engine.bootstrap",
    "engine.importing",
    "engine",
    "api migrations.env migrations.versions scripts",
    "tests",
)
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names.split()}

TABLE_PROJECTIONS = ("engine/projections/catalog.py", "engine/projections/queries.py", "engine/projections/tables*.py")
CONFINED = {  # a library -> the only files that may import it
    "aiohttp": ("engine/providers/http.py",),
    "cryptography": ("engine/audit/*",),
    "alembic": ("engine/store/*", "migrations/*"),
    "httpx": ("engine/providers/http.py",),
    "httpx2": ("engine/tools/mcp.py",),
    "httpx_aiohttp": ("engine/providers/http.py",),
    "litestar": ("api/*",),
    "mcp": ("engine/tools/mcp.py",),
    "mcp_types": ("engine/tools/mcp.py",),
    "sqlalchemy": ("engine/store/*", *TABLE_PROJECTIONS, "migrations/*"),
    "uvicorn": ("api/*",),
}

# The log could leave the house as a library of its own: these files know nothing of chat.
CHATLESS = ("engine/audit/*", "engine/codec.py", "engine/store/*")
CHATLESS_MAY_IMPORT = (
    "engine.audit engine.clock engine.codec engine.errors engine.projections.base engine.settings engine.store"
)

PURE = (  # no clock, no chance, no I/O, no waiting
    "engine/audit/merkle.py engine/blocks.py engine/codec.py engine/decisions.py engine/events.py engine/money.py "
    "engine/projections/session.py "
    "engine/projections/window.py engine/tokens.py engine/upcasts.py"
)
IMPURE_IMPORTS = (
    "anyio asyncio httpx io logging os pathlib random secrets select selectors shutil socket sqlalchemy sqlite3 ssl "
    "subprocess tempfile threading time urllib.request uuid.uuid1 uuid.uuid4"
)
IMPURE_CALLS = {"open", "print", "input"}
IMPURE_METHODS = {"now", "today", "utcnow", "uuid1", "uuid4"}

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400

PRODUCT = ("engine/*", "api/*", "migrations/*", "scripts/*")

TOP_LEVEL = (
    "pyproject.toml engine migrations api tests scripts README.md CHANGELOG.md LICENSE requirements.lock .ci .gitignore"
)

REGISTRIES = (  # with gaps, so that this line names none
    "pypi_org pythonhosted_org npmjs_org npmjs_com yarnpkg_com debian_org/debian crates_io proxy_golang_org maven_org"
)
MACHINE_PATH = re.compile(r"(?<![\w.:~/$}-])/(?:(?:root|work|home|Users|opt|mnt)/\w|tmp/\w+/\w)[\w/]*")
PIN = re.compile(r"[a-z0-9-]+==[0-9a-z.+!-]+( ; [^:/]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?")


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
                found += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                package = self.module.split(".") + ["__init__"] * self.path.endswith("__init__.py")
                base = ".".join(package[: -node.level] if node.level else []) + "." * bool(node.level and node.module)
                found += [(node.lineno, f"{base}{node.module or ''}.{alias.name}") for alias in node.names]
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


def imports_go_one_way(sources):
    """No module imports from a layer above its own, and every module has a layer."""
    modules = {source.module for source in product(sources) if source.nodes}
    unplaced = {module for module in modules if nearest(module, LEVELS) in {"engine", "migrations"} - {module}}
    for source in product(sources):
        if source.module in unplaced:
            yield source.offence(1, f"{source.module} stands in no layer: give it one in LAYERS")
        elif source.nodes:
            own = LEVELS[nearest(source.module, LEVELS)]
            placed = {(line, nearest(name, LEVELS)) for line, name in source.imports if nearest(name, unplaced) is None}
            above = sorted((line, target) for line, target in placed if target and LEVELS[target] > own)
            yield from (source.offence(line, f"{target} stands above {source.module}") for line, target in above)


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
        lines = source.text.count("\n")
        if source.nodes and lines > MAX_FILE_LINES:
            yield source.offence(MAX_FILE_LINES + 1, f"{lines} lines; {MAX_FILE_LINES} are the most")
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
    """Names, versions, markers and hashes; no address."""
    for source in sources:
        lines = source.text.splitlines() if source.path == "requirements.lock" else []
        for number, line in enumerate(lines, 1):
            if not PIN.fullmatch(line):
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
    imports_go_one_way,
    nothing_imports_in_circles,
    libraries_stay_in_their_place,
    the_log_knows_nothing_of_chat,
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
    (imports_go_one_way, "engine/events.py", "import json\nfrom engine.codec import canonical\n", 2),
    (imports_go_one_way, "engine/turns.py", "from engine import Engine\n", 1),
    (imports_go_one_way, "engine/store/log.py", "\nfrom .. import recorder\n", 2),
    (imports_go_one_way, "engine/store/log.py", "from ..turns import Turn\n", 1),
    (imports_go_one_way, "engine/store/__init__.py", "from ..turns import Turn\n", 1),
    (imports_go_one_way, "engine/bootstrap.py", "if TYPE_CHECKING:\n    import api.app\n", 2),
    (imports_go_one_way, "engine/__init__.py", "from tests.support import fake\n", 1),
    (imports_go_one_way, "engine/unheard_of.py", "import json\n", 1),
    (nothing_imports_in_circles, "engine/tokens.py", "import json\nfrom engine.decisions import decide\n", 2),
    (libraries_stay_in_their_place, "engine/projections/session.py", "import sqlalchemy.exc as sa\n", 1),
    (libraries_stay_in_their_place, "engine/providers/openai.py", "\nfrom httpx import Client\n", 2),
    (libraries_stay_in_their_place, "api/cli.py", "import alembic\n", 1),
    (libraries_stay_in_their_place, "scripts/load", "#!/usr/bin/env python3\nimport uvicorn\n", 2),
    (the_log_knows_nothing_of_chat, "engine/store/log.py", "from engine.projections import session\n", 1),
    (the_log_knows_nothing_of_chat, "engine/codec.py", "\nfrom .events import Facts\n", 2),
    (no_import_inside_a_function, "api/cli.py", "def main():\n    if True:\n        import json\n", 3),
    (
        no_import_inside_a_function,
        "scripts/replay.py",
        "class A:\n    async def b(self):\n        from c import d\n",
        3,
    ),
    (pure_files_are_pure, "engine/tokens.py", "from time import monotonic\n", 1),
    (pure_files_are_pure, "engine/decisions.py", "from uuid import UUID, uuid4\n", 1),
    (pure_files_are_pure, "engine/codec.py", "from datetime import datetime as d\nat = d.now()\n", 2),
    (pure_files_are_pure, "engine/projections/window.py", "async def choose(): ...\n", 1),
    (pure_files_are_pure, "engine/upcasts.py", "def read(path):\n    return open(path)\n", 2),
    (nothing_gets_long, "engine/turns.py", "\ndef run():\n" + "    pass\n" * MAX_FUNCTION_LINES, 2),
    (nothing_gets_long, "api/sse.py", "pass\n" * (MAX_FILE_LINES + 1), MAX_FILE_LINES + 1),
    (the_top_level_is_the_users, "docs/index.md", "# Manual\n", 1),
    (files_name_no_registry_and_no_machine, "README.md", "\nSee https://" + "pypi" + ".org/manent.\n", 2),
    (files_name_no_registry_and_no_machine, "scripts/bench", "cd " + "/home" + "/ann\n", 1),
    (files_name_no_registry_and_no_machine, "engine/clock.py", "HERE = '" + "/work" + "/main'\n", 1),
    (the_lock_holds_pins_only, "requirements.lock", "--index-url https://index.example/simple\n", 1),
    (the_lock_holds_pins_only, "requirements.lock", "a==1 \\\n    --hash=sha256:" + 64 * "0" + "\nb>=1\n", 3),
    (the_lock_holds_pins_only, "requirements.lock", "a @ file:///wheels/a.whl \\\n", 1),
    (settings_are_described, "engine/settings.py", "class Settings:\n    port: Annotated[int, Meta(ge=0)] = 1\n", 2),
    (settings_are_described, "engine/settings.py", "class Settings:\n    a: Annotated[int, Meta(description='')]\n", 2),
    (every_test_says_what_it_shows, "tests/unit/test_a.py", "class TestA:\n    async def test_b(self): ...\n", 2),
]

BLAMELESS = [
    Source("README.md", "Open http://127.0.0.1:8000/api/work/1, or /usr/bin/python3, or ~/work/manent.\n"),
    Source("requirements.lock", "a-b==1.0rc1 ; sys_platform == 'win32' \\\n    --hash=sha256:" + 64 * "0" + "\n"),
    Source("engine/store/log.py", "import sqlalchemy\nfrom . import base\nfrom ..projections.base import Projector\n"),
    Source("engine/decisions.py", "from datetime import datetime\nfrom engine.projections.session import State\n"),
    Source("engine/settings.py", "class Settings:\n    a: Annotated[int, Meta(description='what')]\n"),
    Source("api/app.py", "import litestar\nfrom engine import Engine\n\n\nasync def f():\n    await g()\n"),
    Source("migrations/env.py", "import alembic\nfrom engine.store.tables import metadata\n"),
    Source("tests/unit/test_a.py", "import httpx\n\n\ndef test_a():\n    '''It holds.'''\n    import json\n"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_checkout_keeps(rule):
    """No file of the checkout breaks the rule."""
    if offences := list(rule(read_checkout())):
        pytest.fail("\n".join(offences), pytrace=False)


@pytest.mark.parametrize(("rule", "path", "text", "line"), OFFENDING)
def test_a_rule_sees_what_breaks_it(rule, path, text, line):
    """In a checkout with one offending line, that line is named, and no other."""
    counterpart = Source("engine/decisions.py", "from engine.tokens import count\n")
    (offence,) = rule([*BLAMELESS[:3], counterpart, Source(path, text)])
    assert offence.startswith(f"{path}:{line}: ")


def test_no_rule_blames_the_blameless():
    """What is allowed passes every rule."""
    assert [offence for rule in RULES for offence in rule(BLAMELESS)] == []


def test_every_rule_is_proven():
    """There is offending text for each rule, and the checkout was really read."""
    assert {rule for rule, *_ in OFFENDING} == set(RULES)
    assert {"pyproject.toml", "requirements.lock", "tests/test_architecture.py"} <= {s.path for s in read_checkout()}
