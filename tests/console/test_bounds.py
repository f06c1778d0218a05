"""How much the console may be, and what none of its modules may say. No browser is needed for that."""

import gzip
import re

import pytest

from manent.api.http import files
from tests.environment import ROOT

OWN = sorted(path for path in files.FOLDER.rglob("*") if path.suffix in {".js", ".css", ".html"})
MODULES = [path for path in OWN if path.suffix == ".js"]
MAX_LINES, MAX_MODULE, MAX_CORE, MAX_BYTES, MAX_COLUMNS = 4500, 300, 250, 120 * 1024, 180
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|setAttribute\(\"style"
    r"|new Worker|importScripts|DOMParser|createContextualFragment|sessionStorage"
)


def lines(path):
    """All of them, blank ones too."""
    return len(path.read_text("utf-8").splitlines())


def name_of(path):
    return path.relative_to(files.FOLDER).as_posix()


def test_it_is_small():
    """At most 4,500 lines in all, and 120 KB on the wire."""
    assert sum(map(lines, OWN)) <= MAX_LINES
    sent = sum(len(gzip.compress(path.read_bytes(), mtime=0)) for path in OWN)
    assert sent < MAX_BYTES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_small_and_says_nothing_forbidden(path):
    """Under 300 lines, the reactive core under 250; no markup from text, no eval, no worker."""
    text = path.read_text("utf-8")
    assert text.count("\n") < (MAX_CORE if path.name == "reactive.js" else MAX_MODULE)
    assert not [line for line in text.splitlines() if FORBIDDEN.search(line) and "REFUSED" not in line]
    assert max(map(len, text.splitlines())) <= MAX_COLUMNS
    assert text.startswith("// ")


def test_nothing_is_loaded_from_elsewhere():
    """Every import is relative, and no address of another host stands in the code but in namespaces."""
    for path in OWN:
        text = path.read_text("utf-8")
        assert all(each.startswith(".") for each in re.findall(r'from "([^"]+)"', text)), path
        hosts = set(re.findall(r"https?://[\w.]+", text)) - {"http://www.w3.org", "http://127.0.0.1"}
        assert not hosts, path


def test_pictures_are_few_and_small():
    """Those of the README: three, at most 300 KB together."""
    pictures = list((files.FOLDER / "pictures").glob("*.png"))
    assert len(pictures) == 3
    assert sum(picture.stat().st_size for picture in pictures) <= 300 * 1024
    readme = (ROOT / "README.md").read_text("utf-8")
    assert all(f"api/console/pictures/{picture.name}" in readme for picture in pictures)
