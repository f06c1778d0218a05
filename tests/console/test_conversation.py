"""A conversation in the browser: writing, reading along, stopping, and what an answer is made of."""

import base64
import re

import pytest
from playwright.sync_api import expect

from tests.console.harness import MARKDOWN, answer, begin, recorded, says, session_of, show, until, write

BRING = """([bytes, type, how]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], "x", { type }));
  const options = { bubbles: true, cancelable: true };
  const event = how === "paste" ? new ClipboardEvent(how, { ...options, clipboardData: data })
    : new DragEvent(how, { ...options, dataTransfer: data });
  document.querySelector("textarea").dispatchEvent(event);
  return event.defaultPrevented;
}"""
"""Brings a file of a type to where one writes: by paste or by drop. Gives whether the page took it."""

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def test_a_session_is_begun_and_talked_in(page, server, client):
    """From an empty page to an answer on record: title, model, words, figures, and a line for screen readers."""
    show(page, server, heading="Sessions")
    page.keyboard.press("n")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Title").fill("A talk")
    dialog.get_by_label("Model", exact=True).fill("scripted/plain")
    dialog.get_by_label("System prompt").fill("Be brief.")
    page.get_by_role("button", name="Begin", exact=True).click()
    expect(page.locator("h1")).to_have_text("A talk")
    write(page, "Hello?")
    expect(answer(page)).to_have_text("Hello from the script.")
    expect(page.get_by_role("status")).to_have_text("Answer complete.")
    expect(page.locator("article.assistant header")).to_contain_text("scripted/plain")
    expect(page.locator("article.assistant footer")).to_contain_text("12 in")
    expect(page.get_by_role("textbox", name="Message")).to_have_value("")
    assert recorded(client, session_of(page)) == ["Hello?", "Hello from the script."]


def test_an_answer_is_shown_as_what_it_says(page, server, client):
    """Headings, lists, code with its language, tables, quotes; thinking folded; links lead outside and tell nobody;
    pictures are links and are not loaded.
    """
    session = begin(client, "Go.", model="scripted/markdown")
    show(page, server, f"#/sessions/{session}")
    words = answer(page)
    expect(words.get_by_role("heading", name="Title")).to_be_visible()
    expect(words.locator("strong")).to_have_text("bold")
    expect(words.locator("em")).to_have_text("slanted")
    expect(words.locator("ol > li")).to_have_count(2)
    expect(words.locator("figure.code figcaption")).to_contain_text("python")
    expect(words.locator("figure.code code")).to_have_text('print("hello")')
    expect(words.locator("table td").last).to_have_text("2")
    expect(words.locator("blockquote")).to_have_text("quoted")
    link = words.get_by_role("link", name="link")
    expect(link).to_have_attribute("href", "https://example.com/x")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    expect(link).to_have_attribute("referrerpolicy", "no-referrer")
    expect(words.get_by_role("link", name="image: a picture")).to_be_visible()
    expect(words.locator("img")).to_have_count(0)
    expect(page.get_by_text("I think.")).to_be_hidden()
    page.get_by_text("Thinking").click()
    expect(page.get_by_text("I think.")).to_be_visible()


@pytest.mark.slow
def test_the_tree_is_the_same_before_and_after_the_end(page, server, client):
    """What was shown while it came in is what is shown of the record."""
    session = begin(client, model="scripted/markdown")
    show(page, server, f"#/sessions/{session}")
    write(page, "Go.")
    expect(page.get_by_role("status")).to_have_text("Answer complete.")
    expect(answer(page).locator("table td")).to_have_count(2)
    live = answer(page).inner_html()
    page.reload()
    expect(answer(page).locator("table td")).to_have_count(2)
    assert answer(page).inner_html() == live
    assert recorded(client, session)[1] == "I think." + MARKDOWN or recorded(client, session)[1] == MARKDOWN


def test_an_answer_is_stopped(page, server, client):
    """Stop ends it upstream; what came is marked as cut, and who stopped it is told."""
    session = begin(client, model="scripted/hang")
    show(page, server, f"#/sessions/{session}")
    write(page, "Begin.")
    expect(answer(page)).to_have_text("Wait for it")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("This answer was cut off here.")).to_be_visible()
    expect(page.get_by_role("note")).to_contain_text("stopped by local user")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert recorded(client, session) == ["Begin.", "Wait for it"]


@pytest.mark.slow
def test_a_failed_answer_is_seen_and_continued(page, server, client):
    """Why it failed stands below what came of it; one button goes on with it."""
    session = begin(client, "Go.", model="scripted/breaks")
    show(page, server, f"#/sessions/{session}")
    note = page.get_by_role("note")
    expect(note).to_contain_text("The answer failed")
    expect(note).to_contain_text("provider_unavailable")
    page.get_by_role("button", name="Continue the answer").click()
    expect(answer(page)).to_have_text("k no more.")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)


@pytest.mark.slow
def test_tools_are_chosen_and_their_calls_are_shown(page, server, client):
    """With arguments and result, each folded behind a line."""
    session = begin(client, model="scripted/adds")
    show(page, server, f"#/sessions/{session}")
    page.get_by_text("Tools", exact=True).click()
    page.get_by_label("calculator").check()
    write(page, "What is 6 times 7?")
    expect(answer(page)).to_have_text("It is 42.")
    call = page.locator("details.call")
    expect(call).to_contain_text("calculator")
    call.locator("summary").click()
    expect(call.locator("pre")).to_have_text('{\n  "expression": "6 * 7"\n}')
    expect(page.locator("details.result summary")).to_have_text(re.compile(r"Result calculator\s+42"))


def test_images_are_pasted_sent_and_shown(page, server, client):
    """From the clipboard, as a blob and never by address; what is no image is refused with a line."""
    session = begin(client, model="anthropic/claude-sonnet-4-6")
    show(page, server, f"#/sessions/{session}")
    assert page.evaluate(BRING, [list(PIXEL), "image/tiff", "paste"])
    expect(page.get_by_role("alert")).to_contain_text("no PNG, JPEG, GIF or WebP")
    assert page.evaluate(BRING, [list(PIXEL), "image/png", "paste"])
    expect(page.locator(".attached img")).to_have_count(1)
    write(page, "What is this?")
    shown = page.locator("article.user img")
    expect(shown).to_have_attribute("src", re.compile("^blob:"))
    assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") == 1
    message = client.get(f"/api/sessions/{session}/messages").json()["items"][0]
    assert base64.b64decode(message["content"][0]["source"]["data"]) == PIXEL
    expect(page.locator(".attached img")).to_have_count(0)
    expect(page.locator("article.assistant footer")).to_be_visible()


@pytest.mark.slow
def test_images_of_four_types_are_pasted_and_dropped(page, server, client):
    """All of them are shown and can be removed; a file of another type is refused by its name, and nothing is lost."""
    session = begin(client, model="anthropic/claude-sonnet-4-6")
    show(page, server, f"#/sessions/{session}")
    expect(page.get_by_role("textbox", name="Message")).to_be_visible()
    images = page.locator(".attached img")
    brought = [
        ("png", "drop"),
        ("jpeg", "drop"),
        ("gif", "drop"),
        ("webp", "drop"),
        ("jpeg", "paste"),
        ("webp", "paste"),
    ]
    for number, (kind, how) in enumerate(brought, 1):
        assert page.evaluate(BRING, [list(PIXEL), f"image/{kind}", how])
        expect(images).to_have_count(number)
    for kind in ("image/svg+xml", "text/html"):
        assert page.evaluate(BRING, [list(PIXEL), kind, "drop"])
        expect(page.get_by_role("alert")).to_have_text(re.compile("^x is no PNG, JPEG, GIF or WebP"))
    expect(images).to_have_count(len(brought))
    page.get_by_role("button", name="Remove").last.click()
    expect(images).to_have_count(len(brought) - 1)


@pytest.mark.slow
def test_drafts_are_kept(page, server, client):
    """Words that were not sent are there after a reload, in their own session, and gone once they are sent."""
    one, other = begin(client, model="scripted/plain"), begin(client, model="scripted/plain")
    show(page, server, f"#/sessions/{one}")
    box = page.get_by_role("textbox", name="Message")
    box.fill("not yet")
    until(page, "Object.values(localStorage).includes('not yet')")
    page.reload()
    expect(box).to_have_value("not yet")
    show(page, server, f"#/sessions/{other}")
    expect(box).to_have_value("")
    show(page, server, f"#/sessions/{one}")
    expect(box).to_have_value("not yet")  # the other session's view is gone
    box.press("Enter")
    expect(answer(page)).to_have_text("Hello from the script.")
    until(page, "!Object.values(localStorage).includes('not yet')")


@pytest.mark.slow
def test_several_tabs_show_one_turn(watched, server, client):
    """What is said in one is read along in the other, and stands once in both."""
    session = begin(client, model="scripted/numbers")
    seen = watched(server)
    one, other = seen.page, seen.context.new_page()
    for page in (one, other):
        show(page, server, f"#/sessions/{session}")
    write(one, "Count.")
    for page in (one, other):
        expect(page.locator("article.assistant .words")).to_contain_text("n2 n3")
    client.post(f"/api/turns/{client.get(f'/api/sessions/{session}').json()['open_turn_id']}/cancel", json={})
    for page in (one, other):
        expect(page.get_by_text("This answer was cut off here.")).to_be_visible()
        (_, text) = recorded(client, session)
        says(page, text)
        expect(page.locator("article")).to_have_count(2)


@pytest.mark.slow
def test_settings_are_changed_and_told(page, server, client):
    """Title and model by the dialog; that the model changed is told between the messages."""
    session = begin(client, "Hi.", model="scripted/plain", title="Before")
    show(page, server, f"#/sessions/{session}", "Before")
    page.get_by_role("button", name="Settings").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Title").fill("After")
    dialog.get_by_label("Model", exact=True).fill("echo/echo")
    dialog.get_by_role("button", name="Save").click()
    expect(page.locator("h1")).to_have_text("After")
    expect(page.get_by_role("note")).to_contain_text("local user changed model to echo/echo, title")
    assert client.get(f"/api/sessions/{session}").json()["model"] == "echo/echo"


@pytest.mark.slow
def test_a_refusal_is_a_clear_line(page, server, client):
    """What the server said, with its code; what was written is still there."""
    session = begin(client, model="scripted/plain")
    show(page, server, f"#/sessions/{session}")
    page.get_by_role("combobox", name="Model").fill("nobody/none")
    write(page, "Hello?")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("unknown_model")
    expect(page.get_by_role("textbox", name="Message")).to_have_value("Hello?")
