"""The report of a replay: one page that is safe whatever stands in the answers, worst first, what is gone as gone."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manent import engine
from manent.engine.events.usage import Cost, Usage
from manent.engine.service.replay import report as module
from manent.engine.service.replay import report_figures, report_words
from manent.engine.service.replay.compare import compare
from manent.engine.service.replay.noise import NoiseFloor
from manent.engine.service.replay.outline import comparison_of, outline
from manent.engine.service.replay.report import ReportHeader, ReportItem, policy, report
from manent.engine.service.replay.results import FirstDifference, Layers, Measure, Result
from manent.engine.service.replay.telling import in_words
from manent.engine.sessions.turn_views import Failure
from manent.engine.sessions.views import ErasureInfo
from tests.made_turns import ERASED, call, message, text, turn
from tests.support import chatting, says

NEW = engine.new_id
HEADER = ReportHeader("forced", "scripted/new")
VOID = {"meta", "link", "br", "img", "hr", "input", "base"}
NASTY = [
    "<script>alert(1)</script>", "</div></section>", '"><img src=x onerror=alert(1)>', "<!--", "-->", "]]>",
    "&lt;b&gt;", "<style>", "</style>", "</title>", "javascript:alert(1)", "' onclick='x",
    "<a href='https://evil.example'>x</a>", "\x00", "\r", "\ud800", "\u202e", "\u2028", "\ufeff",
    "<base href=//evil.example>", "<svg/onload=x>", "<plaintext>",
]  # fmt: skip


def item(recorded, now, title=None, requests=(None, None), **more):
    """A report's item of two turns, compared."""
    made = {"verdict": "skipped"}
    if recorded is not None and now is not None:
        found = compare(recorded, now)
        made = {
            "verdict": found.verdict,
            "first_difference": found.first_difference,
            "layers": found.layers,
            "reason": found.why,
        }
    made = {"session_id": NEW(), "turn_id": NEW(), "new_session_id": None, "new_turn_id": None} | made | more
    return ReportItem(Result(**made), recorded, now, *requests, title)


class Page(HTMLParser):
    """A page as a parser sees it. Every element must be closed where it belongs."""

    def __init__(self, items, header=HEADER):
        super().__init__()
        self.source = "".join(report(header, items))
        self.elements, self.texts, self.open = [], [], []
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_comment(self, data):
        raise AssertionError(data)

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append((data, tuple(self.open)))

    @property
    def text(self):
        return "".join(data for data, _ in self.texts)

    def within(self, tag):
        """The texts inside elements of a kind."""
        return [data for data, around in self.texts if tag in around]

    def all(self, tag):
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


# --- safe, whatever it shows ------------------------------------------------------------------------------------------


ELEMENTS = {
    "html", "head", "meta", "title", "style", "body", "a", "header", "h1", "h2", "h3", "h4", "h5", "p", "main",
    "ul", "li", "strong", "span", "section", "dl", "div", "dt", "dd", "code", "time", "table", "caption", "thead",
    "tbody", "tr", "th", "td", "bdi", "details", "summary", "ins", "del",
}  # fmt: skip
ATTRIBUTES = {
    "class", "id", "dir", "lang", "href", "aria-labelledby", "aria-label", "aria-hidden", "role", "tabindex", "scope",
    "datetime",
}  # fmt: skip
PIECES = st.lists(st.sampled_from(NASTY) | st.text(max_size=5), min_size=1, max_size=4).map(
    lambda pieces: "x" + "".join(pieces)
)


def everywhere(old, new):
    """A page with these words in every place where words can stand; half a surrogate cannot stand in an answer."""
    said, now_said = old.replace("\ud800", ""), new.replace("\ud800", "")
    vendor = {"type": said[:99], "x": 1}
    recorded = turn(message(vendor, text(said), call(said, {said[:100]: now_said})), model=old, stop_reason=old)
    again = message(vendor, text(now_said), call(said, {said[:100]: f"{now_said}!"}))
    now = turn(again, model=new, stop_reason=old, error=Failure(new, new, retryable=True))
    gone = turn(message(erased=ErasureInfo(1, old, new, new)))
    items = [
        item(recorded, now, old, (old, new), reason=new),
        item(gone, now, new, (json.dumps([old]), None)),
        item(recorded, recorded, new, (new, new)),
        item(recorded, now, first_difference=FirstDifference("text", old, old, {"a": new})),
    ]
    header = ReportHeader("free", old, NEW(), new, old, new, old, new, NoiseFloor(3, 1, text=2))
    return Page(items, header)


@settings(max_examples=50)
@given(PIECES, PIECES)
def test_words_never_become_markup(old, new):
    """Whatever stands in titles, texts, calls, requests and names, there are no elements and attributes but ours."""
    page = everywhere(old, new)
    page.source.encode()  # no half of a surrogate is left
    for tag, attributes in page.elements:
        assert tag in ELEMENTS
        assert tag == "meta" or {*attributes} <= ATTRIBUTES
        assert attributes.get("href", "#").startswith("#")


@pytest.mark.parametrize("nasty", [text for text in NASTY if text.isprintable()])
def test_words_are_read_as_they_were_written(nasty):
    """Markup in an answer, a title and a request is shown as the text that it is."""
    page = everywhere(f"an {nasty} answer", "another one")
    for tag in ("del", "bdi", "details"):
        assert nasty in "".join(page.within(tag))


def test_nothing_runs_and_nothing_is_fetched():
    """The page has no script, no style of an element, no form, and refers to nothing but its own places."""
    page = everywhere("one https://a.example/x", "two url(https://b.example/x)")
    assert not {"script", "link", "img", "iframe", "object", "form", "base", "svg"} & {tag for tag, _ in page.elements}
    assert not re.search(r"url\(|@import|expression|https?:", module._style())
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {attributes["href"][1:] for attributes in page.all("a")} <= {*ids}
    labels = [attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes]
    assert {*labels} <= {*ids}


def test_the_policy_allows_its_style_and_nothing_else():
    """The hash in the policy is that of the one style in the page; the page states the same policy itself."""
    page = Page([])
    (style,) = re.findall(r"<style>(.*?)</style>", page.source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy() == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    (stated,) = (each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy().startswith(stated)
    assert Path(module.__file__).with_name("report.css").read_text(encoding="utf-8") == style


def test_hidden_characters_are_written_out():
    """Characters that turn text round, hide or command are shown by their numbers, and are not in the page."""
    hidden = "\u202e\u200b\x00\r\u2066\x85\ud800"
    html = report_words.words(f"a{hidden}b")
    assert not set(hidden) & set(html)
    assert [f"\\u{ord(each):04x}" in html for each in hidden] == [True] * len(hidden)
    assert report_words.words("שלום\n\tأهلا 👩‍👧") == "שלום\n\tأهلا 👩‍👧"


# --- what it says -----------------------------------------------------------------------------------------------------


def test_the_worst_comes_first():
    """Failed turns stand before different ones, these by layer and before noise, then skipped, and last the same."""
    old = turn("a")
    items = [
        item(old, old, "same"),
        item(None, None, "skipped"),
        item(old, turn("c"), "noise", noise=True),
        item(old, turn("b"), "text"),
        item(old, turn("b", stop_reason="max_tokens"), "stop"),
        item(old, turn("b", status="failed"), "failed"),
    ]
    page = Page(items)
    expected = ["failed", "stop", "text", "noise", "skipped", "same"]
    assert [text for text, around in page.texts if around[-2:] == ("a", "bdi")] == expected
    assert [text for text, around in page.texts if around[-2:] == ("h3", "bdi")] == expected
    assert "Replay of 6 turns: 1 failed, 3 different, 1 skipped, 1 same" in page.within("title")
    assert [attributes["href"] for attributes in page.all("a")][1:7] == [f"#turn-{number}" for number in range(1, 7)]


def test_words_that_differ_are_marked_on_their_side():
    """Removed words are marked beside the record, added ones beside the new answer, of texts and of calls."""
    old = message(text("It rains in Rome."), call("find", {"city": "Rome"}))
    new = message(text("It snows in Rome."), call("find", {"city": "Oslo"}))
    page = Page([item(turn(old), turn(new))])
    assert page.within("del") == ["rains", "Rome"]
    assert page.within("ins") == ["snows", "Oslo"]
    assert "Tool call 1 has other arguments" in page.text
    assert "messages[0].tool_calls[0].input.city" in page.text


def test_other_blocks_are_named():
    """Thinking, vendors' blocks and calls are named with their size, and their words are not shown."""
    thought = {"type": "thinking", "text": "secretly"}
    page = Page([item(turn(message(thought, text("a"))), turn(message(text("b"), call("find", {}))))])
    assert "thinking, 8 characters" in page.text
    assert "call of find" in page.text
    assert "secretly" not in page.text


def test_what_is_erased_is_shown_as_erased():
    """An erased answer is told with who erased it, when and why; the other answer is shown unmarked."""
    page = Page([item(turn(message(erased=ERASED)), turn("still here")), item(turn(message(damaged=True)), turn("b"))])
    assert "Erased by ann, 2026-01-01 00:00:00 UTC: asked <b>for</b>" in page.text
    assert "Damaged" in page.text
    assert "still here" in page.text
    assert page.within("ins") == []


def test_a_turn_without_views_is_told_by_its_result():
    """Where neither turn can be read, verdict, reason and measures are still there."""
    layers = Layers(text=False, tokens=Measure(10, 12), cost=Measure(1_500_000, 1_500_100), time=Measure(900, 1500))
    first = FirstDifference("text", "messages[0].content[0].text[17]")
    page = Page(
        [item(None, None, verdict="different", layers=layers, first_difference=first, reason="a window chosen anew")]
    )
    for told in (
        "The text differs from character 18 on",
        "A window chosen anew",
        "Neither answer can be read",
        "+2",
        "+600 ms",
        "1.50",
        "+0.0001",
    ):
        assert told in page.text


def test_texts_of_the_first_difference_are_read_again():
    """A result on record names the place alone; the page reads what stands there from the turns and the requests."""
    old, new = turn("It rains."), turn("It snows.")
    first = comparison_of(outline(compare(old, new))).first_difference
    assert first.recorded is None
    page = Page([item(old, new, first_difference=first)])
    assert page.text.count("It rains.") == 2
    requests = (
        '{"messages":[{"content":"one"},{"content":"two"}]}',
        '{"messages":[{"content":"one"},{"content":"three"}]}',
    )
    first = FirstDifference("request", "request")
    page = Page([item(old, old, requests=requests, verdict="different", first_difference=first)])
    assert "Our prompt changed, at message 2" in page.text
    assert page.within("ins") == ["three"]


def test_requests_are_there_on_demand():
    """Equal requests are shown once, others side by side, and one alone says whose it is."""
    old = turn("a")
    pages = {
        given: Page([item(old, old, requests=given)])
        for given in [("{}", "{}"), ("{}", "[]"), ("{}", None), (None, None)]
    }
    summaries = [[text for text in page.within("summary") if "request" in text] for page in pages.values()]
    assert summaries == [
        ["The request, equal to the byte"],
        ["The requests, which differ"],
        ["The recorded request"],
        [],
    ]


def test_measures_stand_beside_the_recorded_ones():
    """Tokens, cost and times of both turns are in the table, with the change."""
    old = turn("a", usage=Usage(input_tokens=1200, output_tokens=7), costs=(Cost("EUR", 1500),))
    new = turn("a", usage=Usage(input_tokens=1000, output_tokens=9), costs=(Cost("EUR", 900),), duration_ms=2500)
    page = Page([item(old, new)])
    rows = re.findall(r"<tr>(<th scope=\"row\">.*?)</tr>", page.source)
    cells = {row[0]: row[1:] for row in (re.findall(r">([^<]+)</t[hd]>", each) for each in rows) if row}
    assert cells["Input tokens"] == ["1,200", "1,000", "\N{MINUS SIGN}200"]
    assert cells["Cost"] == ["0.0015 EUR", "0.0009 EUR", "\N{MINUS SIGN}0.0006"]
    assert cells["Took"] == ["50 ms", "2.50 s", "+2.45 s"]


@given(st.integers(0, 10**15))
def test_money_is_written_exactly(value):
    """An amount that is written and read again is the same number of millionths."""
    whole, _, part = report_figures.micros(value).replace(",", "").partition(".")
    assert len(part) >= 2
    assert int(whole) * 10**6 + int(part.ljust(6, "0")) == value


def test_the_noise_floor_is_told():
    """The floor says how many repeats there were, and how many differ in each layer."""
    page = Page([], ReportHeader("forced", "a/b", noise=NoiseFloor(repeats=12, failed=1, text=5)))
    assert "5 of 12" in page.text
    assert "1 more gave no answer" in page.text
    assert "No turn was replayed" in page.text


def test_a_free_replay_says_where_it_parted():
    """The first turn of a session that differs is marked, and those after it are told to follow another history."""
    session, old = NEW(), turn("a")
    items = [item(old, old, session_id=session), *[item(old, turn("b"), session_id=session) for _ in range(2)]]
    for mode, expected in (("free", 1), ("forced", 0)):
        page = Page(items, ReportHeader(mode, "a/b"))
        assert [page.text.count(f"{part} conversation") for part in ("From here on the", "The")] == [2 * expected] * 2


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (FirstDifference("request", "request.messages[3].content"), "Our prompt changed, at message 4"),
        (FirstDifference("request", "request"), "Our prompt changed"),
        (FirstDifference("frames", "frames"), "The frames that readers are shown differ"),
        (FirstDifference("stop_reason", "stop_reason", "a", "b"), "The answer stopped for another reason"),
        (FirstDifference("tool_calls", "messages[0].tool_calls[2].input.city"), "Tool call 3 has other arguments"),
        (FirstDifference("tool_calls", "messages[0].tool_calls[2].name"), "Tool call 3 is of another tool"),
        (FirstDifference("tool_calls", "messages[0].tool_calls[2]", None, {}), "Tool call 3 is new"),
        (FirstDifference("tool_calls", "messages[0].tool_calls[2]", {}), "Tool call 3 is missing"),
        (FirstDifference("tool_calls", "messages[0].tool_calls[2]"), "Tool call 3 differs"),
        (FirstDifference("structure", "messages[1]"), "The answer is made of other blocks"),
        (FirstDifference("text", "messages[1].content[0].text[1999]"), "The text differs from character 2,000 on"),
        (FirstDifference("text", ""), "The text differs"),
    ],
)
def test_differences_are_told_in_words(difference, words):
    """Each first difference has a plain sentence."""
    assert in_words(difference) == words


# --- bounded ----------------------------------------------------------------------------------------------------------


def test_long_answers_are_cut_and_the_page_says_so():
    """Of a long text the page shows a part and counts the rest; a late difference is found behind a long equal text."""
    words = " ".join(f"w{number}" for number in range(20_000))
    page = Page([item(turn(f"{words} old {words}"), turn(f"{words} new {words}"))])
    assert page.within("del") == ["old"]
    assert "equal characters are not shown" in page.text
    assert len(page.source) < 50_000
    other = " ".join(f"v{number}" for number in range(20_000))
    page = Page([item(turn(words), turn(other), requests=(words, other))])
    assert f"{len(words) - report_words.MAX_WORDS_CHARS:,} more characters are not shown." in page.text
    assert len(page.source) < 250_000


def test_a_full_page_tells_further_turns_without_words(monkeypatch):
    """Once the page is long enough, turns have their verdict and figures and no answers."""
    monkeypatch.setattr(module, "MAX_PAGE_CHARS", 5_000)
    page = Page([item(turn("a" * 50), turn(f"{number}")) for number in range(20)])
    assert page.text.count("The page is full") >= 10
    assert len([each for each in page.all("section") if each.get("class") == "turn"]) == 20


def test_odd_content_does_not_stop_it():
    """Blocks that cannot be read, and values that are too deep, are named."""
    odd = turn(message(b"no json", b'{"type":"tool_use","id":"1","name":"f","input_text":"{"}'))
    page = Page([item(odd, turn("a")), item(odd, odd)])
    assert "unreadable, 7 bytes" in page.text
    deep = {"a": json.loads("[" * 900 + "]" * 900)}
    assert report_words.pretty(deep)


# --- for everybody ----------------------------------------------------------------------------------------------------


def test_it_can_be_read_by_everybody():
    """The page names its language, has one title, a way past the head, headings in order, and tables with headings."""
    page = everywhere("one", "two")
    assert page.all("html") == [{"lang": "en"}]
    assert page.all("a")[0] == {"class": "skip", "href": "#turns"}
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(each.get("scope") in {"row", "col"} for each in page.all("th"))
    words = [attributes for tag, attributes in page.elements if attributes.get("class", "").split()[:1] == ["words"]]
    assert words
    assert all(each["dir"] == "auto" for each in words)


async def test_a_real_replay_is_reported(tmp_path):
    """Turns that an engine ran, one of them erased since, stand in the report as they are now."""
    async with chatting(tmp_path / "chat.db", old=says("It rains in Rome."), new=says("It snows in Rome.")) as chat:
        turns = []
        for model in ("old", "new", "old"):
            session = await chat.create_session(model=f"scripted/{model}")
            turns.append(await chat.say(session.id, "Weather?"))
        await chat.erase(turns[2].session_id, reason="asked for")
        gone = await chat.turn(turns[2].id)
    page = Page([item(turns[0], turns[1], "Weather"), item(gone, turns[1])])
    assert (page.within("del"), page.within("ins")) == (["rains"], ["snows"])
    assert "scripted/old" in page.text
    assert "Erased by" in page.text
