"""What tests of the console share: pages that are watched, models that follow a script, and asking modules."""

import json

POLICY_BREAKS = "addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.violatedDirective + ' ' + e.blockedURI))"

BLANK = "css/base.css"
"""A file that a browser shows as text: a page of the console's origin, under its policy, without the console."""

SCRIPT = {
    "plain": [{"steps": [{"text": "Hello from the script."}]}],
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
