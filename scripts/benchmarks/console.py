"""What the console costs a browser: bytes on the wire, script time of a growing answer and of scrolling, and memory.

The browser is Debian's Chromium, the server a real one. Script time is what Chromium counts as such, and the longest
task what it reports as long.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from playwright.sync_api import CDPSession, Page, sync_playwright

from processes import Server
from processes import server as serving
from report import Figure, ratios, spread

MOST_KB, MOST_TIMES, MOST_TASK_MS, MOST_SCROLLING, FLAT = 120, 4, 50, 2, 1.1
ANSWER_BYTES, DELTAS = 24 << 10, 400
LONG, SHORT, AT_ONCE = 10_000, 100, 100
ROUNDS, QUICK_ROUNDS = 9, 3
ANSWERS, QUICK_ANSWERS = 1000, 100
STREAM_ROUNDS, QUICK_STREAM_ROUNDS, EVERY_MS = 7, 2, 8
STEPS, STEP_PX, STEP_MS = 40, 700, 30
NOBODY = "http://127.0.0.1:9"
"""No vendor is asked."""

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--js-flags=--expose-gc"]
WATCH = """window.longest = 0;
new PerformanceObserver((list) => { for (const task of list.getEntries())
  window.longest = Math.max(window.longest, task.duration); }).observe({ type: "longtask" });"""
PARAGRAPH = (
    "Some **bold** and *slanted* words, `code`, and a [link](https://example.com/x) to read on. Then it goes on in "
    "plain words for a while, as answers do, and comes to a point.\n\n"
)
EXTRAS = "- one\n- two\n\n```python\nprint(1)\n```\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\n"
ANSWER = (PARAGRAPH * 5 + EXTRAS) * 24
"""More than 24 KB; it is cut there."""

LEX = """async ([text, deltas]) => {
  const { Markdown } = await import("/console/markdown/blocks.js");
  const { MarkdownText } = await import("/console/markdown/nodes.js");
  const end = (part) => Math.ceil(((part + 1) * text.length) / deltas);
  const parts = Array.from({ length: deltas }, (_, part) => text.slice(0, end(part)));
  const timed = (work) => { const begun = performance.now(); work(); return performance.now() - begun; };
  const lex = (steps) => timed(() => {
    const markdown = new Markdown();
    let read = 0;
    for (const known of steps) { markdown.append(known.slice(read)); read = known.length; }
    markdown.finish();
  });
  const show = (steps) => timed(() => {
    const shown = new MarkdownText(document.createElement("div"));
    for (const known of steps) {
      Object.assign(shown, { text: known, complete: known === text });
      while (shown.work(Infinity));
    }
  });
  return [lex([text]), lex(parts), show([text]), show(parts)];
}"""


LEX_ONCE = """async (text) => {
  const { Markdown } = await import("/console/markdown/blocks.js");
  await new Promise((done) => setTimeout(() => {
    new Markdown().append(text).finish();
    done();
  }));
}"""
"""In a task of its own: what the developer tools ask for is not counted as script."""


@dataclass(frozen=True)
class Scrolled:
    """A session scrolled through: script time, and the longest task."""

    script_ms: float
    longest_ms: float


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    script = folder / "script.json"
    step = {"text": ANSWER[:ANSWER_BYTES], "chunk_chars": -(-ANSWER_BYTES // DELTAS), "every_ms": EVERY_MS}
    script.write_bytes(msgspec.json.encode({"models": {"answer": [{"steps": [step]}]}}))
    running = serving(folder / "console.db", NOBODY, MANENT_SCRIPT=str(script))
    with running as server, _browser() as (page, devtools):
        figures = [_transferred(page, devtools, server)]
        figures += _growing(page, QUICK_ROUNDS if quick else ROUNDS)
        figures.append(_streamed(page, devtools, server, QUICK_STREAM_ROUNDS if quick else STREAM_ROUNDS))
        figures += _scrolling(page, devtools, server, quick=quick)
        figures += _remembering(page, devtools, server, QUICK_ANSWERS if quick else ANSWERS)
    return figures


@contextmanager
def _browser() -> Iterator[tuple[Page, CDPSession]]:
    """A page of the console's origin, and its developer tools."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise RuntimeError("no Chromium here (on Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.add_init_script(WATCH)
        devtools = page.context.new_cdp_session(page)
        devtools.send("Performance.enable")
        yield page, devtools
        browser.close()


def _home(server: Server, path: str = "") -> str:
    return f"http://127.0.0.1:{server.port}/console/{path}"


def _transferred(page: Page, devtools: CDPSession, server: Server) -> Figure:
    sizes: list[float] = []
    devtools.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    devtools.send("Network.enable")
    page.goto(_home(server))
    page.wait_for_selector("h1")
    page.wait_for_timeout(500)
    devtools.send("Network.disable")
    return Figure("first visit", spread([sum(sizes) / 1024]), "KB", MOST_KB, note=f"{len(sizes)} requests")


def _growing(page: Page, rounds: int) -> list[Figure]:
    """A text in many deltas, beside the same text at once: lexed only, and shown."""
    text = ANSWER[:ANSWER_BYTES]
    page.evaluate(LEX, [text, DELTAS])
    measured: list[Sequence[float]] = [page.evaluate(LEX, [text, DELTAS]) for _ in range(rounds)]
    lexed, lexed_growing, shown, shown_growing = zip(*measured, strict=True)
    lexing, showing = ratios(lexed_growing, lexed), ratios(shown_growing, shown)
    return [
        Figure(f"24 KB lexed in {DELTAS} deltas", lexing, "of at once", MOST_TIMES, note=_at_once(lexed)),
        Figure("    and shown", showing, "of at once", MOST_TIMES, note=_at_once(shown)),
    ]


def _at_once(measured: Sequence[float]) -> str:
    return f"{spread(measured).median:.1f} ms at once"


def _streamed(page: Page, devtools: CDPSession, server: Server, rounds: int) -> Figure:
    """All script time of a page to which the text is streamed, beside lexing it once; each in a page that is new."""
    lexed, streamed = [], []
    for _ in range(rounds):
        _visit(page, server, "")
        before = _metric(devtools, "ScriptDuration")
        page.evaluate(LEX_ONCE, ANSWER[:ANSWER_BYTES])
        lexed.append(_metric(devtools, "ScriptDuration") - before)
        session = server.create_session(model="scripted/answer")
        _visit(page, server, f"#/sessions/{session}")
        before = _metric(devtools, "ScriptDuration")
        server.say(session, "Go.")
        time.sleep(1)
        streamed.append(_metric(devtools, "ScriptDuration") - before)
        if page.locator("article.assistant table").count() != ANSWER[:ANSWER_BYTES].count("| 1 | 2 |"):
            raise RuntimeError("the page does not show the whole answer")
    note = f"{spread(streamed).median * 1000:.0f} ms, and {spread(lexed).median * 1000:.0f} ms to lex it once"
    return Figure("    and streamed to a page", ratios(streamed, lexed), "of lexing once", MOST_TIMES, note=note)


def _visit(page: Page, server: Server, path: str) -> None:
    """A page that is new, and has come to rest."""
    page.goto("about:blank")
    page.goto(_home(server, path))
    page.wait_for_selector("h1")
    page.wait_for_timeout(700)


# --- scrolling --------------------------------------------------------------------------------------------------------


def _scrolling(page: Page, devtools: CDPSession, server: Server, *, quick: bool) -> list[Figure]:
    long = LONG // 10 if quick else LONG
    scrolled = [_scrolled(page, devtools, server, size) for size in (SHORT, long)]
    times = ratios([scrolled[1].script_ms], [scrolled[0].script_ms])
    return [
        Figure(f"scrolling in {long:,} messages", times, f"of {SHORT}", MOST_SCROLLING),
        Figure("    longest task", spread([scrolled[1].longest_ms]), "ms", MOST_TASK_MS),
    ]


def _scrolled(page: Page, devtools: CDPSession, server: Server, size: int) -> Scrolled:
    """A session of so many messages, all of them loaded, scrolled up and down in its middle."""
    session = server.create_session(model="echo/echo")
    for first in range(0, size, AT_ONCE):
        texts = [f"Message {number}. {PARAGRAPH}" for number in range(first, min(size, first + AT_ONCE))]
        server.append(session, texts)
    page.goto("about:blank")
    page.goto(_home(server, f"#/sessions/{session}"))
    page.wait_for_selector("article")
    page.evaluate(_LOAD_ALL)
    page.locator(".scroller").hover()
    page.wait_for_timeout(500)
    before = _metric(devtools, "ScriptDuration")
    page.evaluate("window.longest = 0")
    for step in range(STEPS):
        page.mouse.wheel(0, STEP_PX if step < STEPS // 2 else -STEP_PX)
        page.wait_for_timeout(STEP_MS)
    page.wait_for_timeout(200)
    script_ms = (_metric(devtools, "ScriptDuration") - before) * 1000
    return Scrolled(script_ms, float(page.evaluate("window.longest")))


_LOAD_ALL = """async () => {
  const scroller = document.querySelector(".scroller");
  const words = () => [...document.querySelectorAll("article .words")];
  const first = () => words().some((each) => each.textContent.startsWith("Message 0."));
  while (!first()) {
    scroller.scrollTop = 0;
    await new Promise((done) => setTimeout(done, 5));
  }
}"""


# --- memory -----------------------------------------------------------------------------------------------------------


def _remembering(page: Page, devtools: CDPSession, server: Server, answers: int) -> list[Figure]:
    """What the page holds after so many answers that came in, beside what it held after a fifth of them."""
    session = server.create_session(model="echo/echo")
    page.goto("about:blank")
    page.goto(_home(server, f"#/sessions/{session}"))
    page.wait_for_selector("textarea")
    held: list[dict[str, float]] = []
    for number in range(1, answers + 1):
        server.say(session, f"Answer {number}. {PARAGRAPH}")
        if number in {answers // 5, answers}:
            page.wait_for_timeout(1000)
            devtools.send("HeapProfiler.collectGarbage")
            held.append({name: _metric(devtools, name) for name in ("JSHeapUsedSize", "Nodes")})
    early, late = held
    note = f"{early['JSHeapUsedSize'] / 1e6:.1f} MB, then {late['JSHeapUsedSize'] / 1e6:.1f} MB"
    heap = ratios([late["JSHeapUsedSize"]], [early["JSHeapUsedSize"]])
    nodes = ratios([late["Nodes"]], [early["Nodes"]])
    what = f"heap after {answers:,} answers"
    return [
        Figure(what, heap, f"of after {answers // 5}", FLAT, note=note),
        Figure("    nodes on the page", nodes, f"of after {answers // 5}", FLAT),
    ]


def _metric(devtools: CDPSession, name: str) -> float:
    metrics: list[dict[str, Any]] = devtools.send("Performance.getMetrics")["metrics"]
    return next(float(each["value"]) for each in metrics if each["name"] == name)
