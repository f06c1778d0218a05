"""What tests of the console share: pages that are watched, models that follow a script, and asking modules."""

import json
import re
import time

from playwright.sync_api import expect

POLICY_BREAKS = """addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`))"""
BLANK = "css/base.css"
"""A file that a browser shows as text: a page of the console's origin, under its policy, without the console."""

NUMBERS = " ".join(f"n{number}" for number in range(1, 401))
"""A text of which no part looks like another, and that Markdown shows as it is."""

EVIL = (
    "<script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)>"
    "<iframe src=javascript:alert(4)></iframe>"
    "\"'><style>*{display:none}</style><base href=//evil.example><meta http-equiv=refresh content=0;url=//evil.example>"
)
"""Markup of every kind that would run or load something, if anybody read it as markup."""

MARKDOWN = """# Title

Some **bold**, *slanted* and `code` words, a [link](https://example.com/x) and ![a picture](https://example.com/y.png).

1. one
2. two

   ```python
   print("hello")
   ```

> quoted

| a | b |
| - | -: |
| 1 | 2 |
"""

SCRIPT = {
    "plain": [{"steps": [{"text": "Hello from the script."}, {"usage": {"input_tokens": 12, "output_tokens": 5}}]}],
    "markdown": [{"steps": [{"thinking": "I think."}, {"text": MARKDOWN, "chunk_chars": 7, "every_ms": 2}]}],
    "numbers": [{"steps": [{"text": NUMBERS, "chunk_chars": 5, "every_ms": 8}]}],
    "hang": [{"steps": [{"text": "Wait for it"}, {"hang": True}]}],
    "breaks": [
        {"steps": [{"text": "I brea"}, {"fail": {"code": "provider_unavailable", "detail": "no luck"}}]},
        {"steps": [{"text": "k no more."}]},
    ],
    "evil": [{"steps": [{"text": "I brea"}, {"fail": {"code": "provider_unavailable", "detail": EVIL}}]}],
    "adds": [
        {
            "steps": [
                {"text": "I add."},
                {"tool": {"id": "sum", "name": "calculator", "input": {"expression": "6 * 7"}}},
            ]
        },
        {"steps": [{"text": "It is 42."}]},
    ],
    "greets": [
        {"steps": [{"text": "I greet."}, {"tool": {"id": "hi", "name": "tests_greet", "input": {"name": "Ann"}}}]},
        {"steps": [{"text": "That is done."}]},
    ],
}


class Watched:
    """A context whose pages are watched."""

    def __init__(self, context, home):
        self.context = context
        self.home = home
        self.expected = []
        self.seen = []
        self.requests = []
        context.add_init_script(POLICY_BREAKS)
        context.on("page", self._watch)
        self.page = context.new_page()

    def _watch(self, page):
        page.on("dialog", self._dialog)
        page.on("pageerror", lambda error: self.seen.append(f"error: {error}"))
        page.on("console", self._console)
        page.on("request", self._request)

    def _dialog(self, dialog):
        self.seen.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, message):
        # That a request was refused is the page's to show; the browser says so here as well.
        if message.type in {"error", "warning"} and not message.text.startswith("Failed to load resource"):
            self.seen.append(f"console: {message.text}")

    def _request(self, request):
        self.requests.append(request.url)
        if not request.url.startswith((self.home, "data:", "blob:")):
            self.seen.append(f"elsewhere: {request.url}")

    def faults(self):
        return [fault for fault in self.seen if not any(words in fault for words in self.expected)]


def run_module(page, server, path, body, *arguments):
    """What an async function body gives that is run with a module of the console as ``m``, and with arguments."""
    if not page.url.startswith(server.url):
        page.goto(f"{server.url}/console/{BLANK}")
    names = [f"a{number}" for number in range(len(arguments))]
    script = f"async ([{', '.join(names)}]) => {{ const m = await import('/console/{path}'); {body} }}"
    return page.evaluate(script, list(arguments))


def pretty(value):
    """A value for comparing by eye."""
    return json.dumps(value, indent=1, ensure_ascii=False)


# --- the console ------------------------------------------------------------------------------------------------------


def show(page, server, path="", heading=None):
    """Open a view, and wait for its heading."""
    page.goto(f"{server.url}/console/{path}")
    title = page.locator("h1")
    expect(title).to_be_visible()
    if heading is not None:
        expect(title).to_contain_text(heading)


def write(page, text):
    """Write a message and send it."""
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")


def answer(page):
    """The newest answer's words."""
    return page.locator("article.assistant .words").last


def says(page, text):
    """Wait until the newest answer is exactly a text, as Markdown shows it: words are drawn a frame after they came."""
    for _ in range(100):
        if answer(page).text_content() == text.rstrip():
            return
        page.wait_for_timeout(50)
    assert answer(page).text_content() == text.rstrip()


def until(page, expression):
    """Wait until an expression is true in the page. Playwright's own way needs eval, which the policy forbids."""
    for _ in range(400):
        if page.evaluate(expression):
            return
        time.sleep(0.05)
    raise AssertionError(f"never true: {expression}")


def session_of(page):
    """The id of the session that is shown."""
    return re.search(r"#/sessions/([0-9a-f-]{36})", page.url)[1]


def begin(client, content=None, **fields):
    """A new session, with a turn that has ended if a text is given; its id."""
    options = {name: fields.pop(name) for name in ("tools",) if name in fields}
    session = client.post("/api/sessions", json=fields).json()["id"]
    if content is not None:
        client.post(f"/api/sessions/{session}/turns", json={"content": content, **options}).raise_for_status()
    return session


def recorded(client, session):
    """The texts of a session's messages, as they are on record."""
    messages = client.get(f"/api/sessions/{session}/messages", params={"limit": 1000}).json()["items"]
    return ["".join(block.get("text", "") for block in message["content"]) for message in messages]
