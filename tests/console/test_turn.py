"""What the model saw: a turn's requests in time, the exact request, and figures that add up."""

import json
import re

import pytest
from playwright.sync_api import expect

from tests.console.harness import begin, show


def test_a_message_opens_the_request_behind_it(page, server, client):
    """Rounds and tools in time; the exact bytes with their commitment; each message with the reason why it was sent."""
    session = begin(client, "What is 6 times 7?", model="scripted/adds", system="Add well.", tools=["calculator"])
    show(page, server, f"#/sessions/{session}")
    page.locator("article.assistant").last.hover()
    page.locator("article.assistant").last.get_by_role("link", name="What the model saw").click()
    expect(page.locator("h1")).to_have_text("What the model saw")
    names = page.locator(".timeline .name")
    expect(names).to_have_text(["Round 1 · adds", "Tool · calculator", "Round 2 · adds"])
    requests = page.locator("section.request")
    expect(requests).to_have_count(2)
    requests.nth(1).get_by_text("The exact request").click()
    expect(page.get_by_text("These are the bytes that were sent")).to_be_visible()
    rows = requests.nth(1).locator("table tbody tr")
    expect(rows).to_have_text([re.compile("system"), *[re.compile("last|newest")] * 3, re.compile("tools")])
    requests.nth(1).get_by_text("The bytes of the request").click()
    turn = client.get(f"/api/sessions/{session}/turns").json()["items"][0]
    prompt = client.get(f"/api/turns/{turn['id']}/prompt").json()
    shown = requests.nth(1).get_by_role("group", name="Request").text_content()
    assert json.loads(shown) == prompt["request"]


def test_the_figures_of_a_window_add_up(page, server, client):
    """The sum that is written out is the one of the recorded figures."""
    session = begin(client, "Sum?", model="scripted/plain")
    turn = client.get(f"/api/sessions/{session}/turns").json()["items"][0]
    window = client.get(f"/api/turns/{turn['id']}/prompt").json()["window"]
    show(page, server, f"#/turns/{turn['id']}?attempt=1", "What the model saw")
    caption = page.locator("table caption")
    expect(caption).to_contain_text(f"= {window['used_tokens']:,}")
    base, factor, overhead, used = [
        float(text.replace(",", "")) for text in re.findall(r"[\d,.]*\d", caption.text_content())[:4]
    ]
    tokens = [float(text) for text in page.locator("tbody tr td:nth-child(3)").all_text_contents()]
    assert sum(tokens) == base
    assert -(-base * factor // 1) + overhead * len(tokens) == used


@pytest.mark.slow
def test_words_that_are_gone_are_not_made_up(page, server, client):
    """Where words of a request are erased, it says so in place of the request."""
    session = begin(client, "Gone soon.", model="scripted/plain")
    turn = client.get(f"/api/sessions/{session}/turns").json()["items"][0]
    client.post(f"/api/sessions/{session}/erase", json={"reason": "asked for"}).raise_for_status()
    show(page, server, f"#/turns/{turn['id']}?attempt=1", "What the model saw")
    expect(page.get_by_role("alert")).to_contain_text("erased")
