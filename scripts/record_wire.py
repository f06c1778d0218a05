#!/usr/bin/env python3
"""Records a provider's real stream as a golden fixture of the tests, with all that is secret or an account's replaced.

    OPENAI_API_KEY=… scripts/record_wire chat NAME          tests/golden/wire/openai_NAME.sse
    OPENAI_API_KEY=… scripts/record_wire responses NAME     tests/golden/wire/responses_NAME.sse
    ANTHROPIC_API_KEY=… scripts/record_wire claude NAME     tests/golden/wire/claude_NAME.sse

The bytes are those that came, but for ids, opaque blocks, keys and the like: these are replaced by stand-ins of the
same form and length, numbered as they come, so that recording again gives the same ids. Nothing is written unless the
stream has ended by its end marker, decodes to the same chunks as before, and holds none of the secrets that are known.

Exit codes: 0 written; 1 the provider failed, or its stream may not be kept; 2 wrong use.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"

try:
    import click
    import msgspec

    from manent.api.cli.main import run
    from manent.api.cli.options import read_settings, settings_options
    from manent.engine import EngineError, Invalid, ProviderError, Settings
    from manent.engine.clock import SystemClock
    from manent.engine.events.blocks import TextBlock, ToolSchema
    from manent.engine.providers.anthropic import render as claude_render
    from manent.engine.providers.anthropic.stream import MessageStream
    from manent.engine.providers.base import (
        BlockStarted,
        Chunk,
        Delta,
        Ended,
        Parameters,
        Prompt,
        PromptMessage,
        VendorBlock,
    )
    from manent.engine.providers.openai import chat_render, responses_render
    from manent.engine.providers.openai.chat_stream import ChatStream
    from manent.engine.providers.openai.responses_stream import ResponsesStream
    from manent.engine.providers.wire.addresses import checked_key, checked_url
    from manent.engine.providers.wire.http import Client, make_client, post_stream
    from manent.engine.providers.wire.sse import SseDecoder
    from manent.engine.providers.wire.vendor import AnswerStream
except ModuleNotFoundError as error:
    if error.name not in {"click", "msgspec", "engine", "api"}:
        raise
    # Started with some other Python: go on with the one that scripts/serve and scripts/test make.
    if Path(sys.prefix) != VENV and (VENV / "bin/python").exists():
        os.execv(VENV / "bin/python", [str(VENV / "bin/python"), *sys.argv])  # noqa: S606 - no shell is wanted
    print("manent: run scripts/serve or scripts/test first: they make the environment", file=sys.stderr)
    sys.exit(2)

WIRE = ROOT / "tests" / "golden" / "wire"
PREFIXES = {"chat": "openai", "responses": "responses", "claude": "claude"}
MODELS = {"chat": "gpt-5-mini", "responses": "gpt-5-mini", "claude": "claude-haiku-4-5"}
NAME = re.compile(r"[a-z0-9_]{1,40}")
PROMPT = "Which town lies further north, Oslo or Rome? Answer in one sentence."
TOOLS_PROMPT = "What will the weather be in Rome and in Oslo? Ask for both forecasts at once."
FORECAST = ToolSchema(
    "forecast",
    "The weather forecast of a town.",
    {"type": "object", "properties": {"town": {"type": "string"}, "days": {"type": "integer"}}, "required": ["town"]},
)
MAX_BYTES = 16 << 20


class Unfit(EngineError):
    """The stream may not be kept."""


Target = tuple[str, dict[str, str], Callable[[Prompt], bytes]]
"""An address, headers, and what makes a request."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("protocol", type=click.Choice(list(PREFIXES)))
@click.argument("name")
@click.option("--model", help=f"model to ask  [default: {MODELS['chat']}, {MODELS['claude']}]")
@click.option("--prompt", help="what to ask  [default: a short question]")
@click.option("--tools", is_flag=True, help="offer a tool, and make the model call it")
@click.option("--max-output-tokens", type=click.IntRange(1), default=2048, show_default=True, help="of the answer")
@click.option(
    "--request",
    "request_file",
    type=click.Path(path_type=Path),
    help="send this file's JSON as it stands, in place of all the above",
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=WIRE,
    help="where to write  [default: tests/golden/wire]",
)
@click.option("--force", is_flag=True, help="write over a fixture that is there")
@settings_options("openai_base_url", "anthropic_base_url", "anthropic_version", "turn_timeout_s")
def record_wire(
    *, protocol: str, name: str, request_file: Path | None, folder: Path, force: bool, **options: Any
) -> None:
    """Record a stream of PROTOCOL (OpenAI's chat completions or responses, or claude) as the fixture NAME.

    The keys are OPENAI_API_KEY and ANTHROPIC_API_KEY, or in files that OPENAI_API_KEY_FILE and ANTHROPIC_API_KEY_FILE
    name. What a new fixture's chunks are must be said in its protocol's test, tests/unit/test_*_wire.py.
    """
    asked = {option: options.pop(option) for option in ("model", "prompt", "tools", "max_output_tokens")}
    settings = read_settings(options)
    if not NAME.fullmatch(name):
        raise Invalid("name", "must be 1 to 40 characters of a-z 0-9 _")
    path = folder / f"{PREFIXES[protocol]}_{name}.sse"
    if path.exists() and not force:
        raise Invalid("name", f"{path.name} is there already; --force writes over it")
    url, given, render = _target(protocol, settings)
    body = render(_prompt(protocol, **asked)) if request_file is None else _read_request(request_file)
    headers, raw = asyncio.run(_receive(url, given, body, settings))
    cleaner = Cleaner(_private(settings, headers))
    clean, chunks = _checked(protocol, raw, cleaner)
    _write(path, clean)
    kinds = Counter(type(chunk).__name__ for chunk in chunks)
    click.echo(f"{path.name}: {len(clean)} bytes, {_listed(kinds)}")
    click.echo(f"replaced: {_listed(cleaner.counts)}")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "nothing"


# --- asking -----------------------------------------------------------------------------------------------------------


def _target(protocol: str, settings: Settings) -> Target:
    """Where a protocol is spoken. Raises Invalid where a key is missing; a server of one's own may need none."""
    vendor = Settings()
    if protocol == "claude":
        base = checked_url(settings.anthropic_base_url, "anthropic_base_url")
        key = _key("ANTHROPIC_API_KEY", settings.anthropic_api_key, needed=base == vendor.anthropic_base_url)
        renderer = claude_render.renderer_for(settings.anthropic_version, cache_breakpoints=False)
        headers = {"anthropic-version": settings.anthropic_version} | ({"x-api-key": key} if key else {})
        return f"{base}/v1/messages", headers, claude_render.RENDERERS[renderer]
    base = checked_url(settings.openai_base_url, "openai_base_url")
    is_vendor = base == vendor.openai_base_url
    key = _key("OPENAI_API_KEY", settings.openai_api_key, needed=is_vendor)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    if protocol == "responses":
        return f"{base}/responses", headers, responses_render.render_responses
    render = chat_render.render_chat if is_vendor else chat_render.render_chat_compat
    return f"{base}/chat/completions", headers, render


def _key(name: str, value: str | None, *, needed: bool) -> str | None:
    if needed and not value:
        raise Invalid(name, "is not set, and the vendor answers nobody without it")
    return checked_key(value, name)


def _prompt(protocol: str, *, model: str | None, prompt: str | None, tools: bool, max_output_tokens: int) -> Prompt:
    said = TextBlock(prompt or (TOOLS_PROMPT if tools else PROMPT))
    return Prompt(
        model or MODELS[protocol],
        (PromptMessage("user", (said,)),),
        "You are brief.",
        (FORECAST,) if tools else (),
        Parameters(max_output_tokens=max_output_tokens, tool_choice="any" if tools else None),
    )


def _read_request(path: Path) -> bytes:
    try:
        body = path.read_bytes()
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except OSError as error:
        raise Invalid("request", f"cannot be read: {type(error).__name__}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Invalid("request", f"is no object of JSON: {error}") from None
    if bytes(fields.get("stream", msgspec.Raw(b""))) != b"true":
        raise Invalid("request", 'must have "stream": true')
    return body


async def _receive(
    url: str, given: dict[str, str], body: bytes, settings: Settings
) -> tuple[list[tuple[str, str]], bytes]:
    """The headers and the bytes of the answer, as they came. Raises what the provider's client raises."""
    headers: list[tuple[str, str]] = []

    async def note(response: Any) -> None:
        headers.extend(response.headers.multi_items())

    client: Client = make_client(settings.connect_timeout_s)
    client.event_hooks = {"response": [note]}
    raw = bytearray()
    pieces = post_stream(client, url, given, body, provider="the provider", clock=SystemClock())
    try:
        async with asyncio.timeout(settings.turn_timeout_s), aclosing(pieces):
            async for piece in pieces:
                raw += piece
                if len(raw) > MAX_BYTES:
                    raise Unfit(f"the stream is larger than {MAX_BYTES} bytes")
    except TimeoutError:
        raise Unfit(f"the stream did not end within {settings.turn_timeout_s} seconds") from None
    except ProviderError as failure:
        said = Cleaner(_private(settings, headers)).clean(failure.upstream.encode()).decode()
        raise Unfit(f"{failure.detail}{said and f': {said}'}") from None
    finally:
        await client.aclose()
    return headers, bytes(raw)


# --- what may not be kept ---------------------------------------------------------------------------------------------

_PRIVATE_HEADERS = re.compile(
    r"\b(account|cookie|id|key|org|organization|project|ray|session|token|trace|traceparent|user|workspace)\b"
)
"""In the names of headers whose values belong to an account or a request."""
MIN_SECRET_CHARS = 6

_FIELDS = (
    "id|account_id|call_id|container_id|conversation_id|file_id|item_id|organization_id|previous_response_id|project_id"
    "|request_id|response_id|tool_use_id|user_id|workspace_id|organization|project|user|safety_identifier"
    "|prompt_cache_key|encrypted_content|encrypted_index|encrypted_stdout|signature"
)
"""Fields of the wire that hold ids, or what only the vendor can read: some of it names accounts and keys."""

_SCALAR = rb'(?:[^"\\]|\\.)+'
_FIELD = rb'"(?:%s)"\s*:\s*"' % _FIELDS.encode()
_REDACTED = rb'"type"\s*:\s*"redacted_thinking"\s*,\s*"data"\s*:\s*"'
_IN_A_FIELD = re.compile(rb"(?P<before>%s|%s)(?P<value>%s)" % (_FIELD, _REDACTED, _SCALAR))
_ANYWHERE = (
    rb"\bsk-[A-Za-z0-9*_.-]{6,}",
    rb"\b(?:org|user|proj|req|sess|acct|wrkspc|apikey)[-_](?:(?=[A-Za-z]*\d)[A-Za-z0-9]{8,}|[A-Za-z0-9]{16,})",
    rb"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b",
    rb"\bft:[\w.-]+:[\w.-]*:[\w.:-]+",
)
"""Keys, ids of organisations, projects and requests, UUIDs, and names of fine-tuned models, wherever they stand."""
_PREFIX = re.compile(
    r"(?:acct|c[ui]|call|chatcmpl|cntr|container|f[ct]|file|ig|item|mcp|msg|org|proj|req|resp|rs|sess|sk(?:-ant|-proj)?|"
    r"(?:srv|mcp)?toolu|user|ws)[-_:]"
)
"""What ids begin with that says what they are ids of: it stays."""
_LONG = 12
"""A field's value of so many bytes is replaced wherever else it stands too."""


class Cleaner:
    """Replaces what is secret or an account's: the same by the same, by stand-ins of the same length where it can be.

    ``secrets`` are known ones, beside those told by form or field; ``counts``: how many values were replaced.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = {_as_json(secret).encode() for secret in secrets if len(secret) >= MIN_SECRET_CHARS}
        self._stand_ins: dict[bytes, bytes] = {}
        self.counts: Counter[str] = Counter()

    def clean(self, data: bytes) -> bytes:
        """The same bytes, but for what may not be kept."""
        told = {match["value"] for match in _IN_A_FIELD.finditer(data)} | self._stand_ins.keys()
        known = [_longest_first(self._secrets), *_ANYWHERE, _longest_first(each for each in told if len(each) >= _LONG)]
        other = b"|".join(filter(None, known))
        return re.sub(_IN_A_FIELD.pattern + rb"|(?P<other>%s)" % other, self._replace, data)

    def leaks(self, text: str) -> bool:
        """Whether a known secret stands in a text."""
        return any(json.loads(f'"{secret.decode()}"') in text for secret in self._secrets)

    def _replace(self, match: re.Match[bytes]) -> bytes:
        return (match["before"] or b"") + self._stand_in(match["value"] or match["other"])

    def _stand_in(self, value: bytes) -> bytes:
        if value not in self._stand_ins:
            text = value.decode(errors="replace")
            found = None if value in self._secrets else _PREFIX.match(text)
            prefix = found[0] if found else ""
            self.counts[prefix or "other"] += 1
            masked = _masked(text.removeprefix(prefix), self.counts[prefix or "other"])
            self._stand_ins[value] = (prefix + masked).encode()
        return self._stand_ins[value]


def _longest_first(values: Iterable[bytes]) -> bytes:
    return b"|".join(map(re.escape, sorted(values, key=len, reverse=True)))


def _masked(text: str, number: int) -> str:
    """A number in the place of letters and digits, from the right; what stands between them stays."""
    if "\\" in text or not text.isascii():
        return f"{number:0>{len(text)}}"
    places = sum(map(str.isalnum, text))
    digits = iter(f"{number:0>{places}}")
    masked = "".join(next(digits) if sign.isalnum() else sign for sign in text)
    return masked + "".join(digits)


def _as_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _private(settings: Settings, headers: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The keys, and the values of headers that belong to an account or a request; of cookies, what they hold."""
    yield from filter(None, (settings.openai_api_key, settings.anthropic_api_key))
    for name, value in headers:
        if "cookie" in name.lower():
            yield value.partition(";")[0].partition("=")[2]
        elif _PRIVATE_HEADERS.search(name.lower()):
            yield value


# --- what is kept -----------------------------------------------------------------------------------------------------


def _checked(protocol: str, raw: bytes, cleaner: Cleaner) -> tuple[bytes, list[Chunk]]:
    """The stream as it may be kept, and its chunks. Raises Unfit."""
    clean = cleaner.clean(raw)
    try:
        before, after = list(_chunks(protocol, raw)), list(_chunks(protocol, clean))
    except ProviderError as failure:
        raise Unfit(f"{failure.detail}; nothing was written") from None
    if [_comparable(chunk, None) for chunk in after] != [_comparable(chunk, cleaner) for chunk in before]:
        raise Unfit("without what is secret the stream says something else; nothing was written")
    if _texts(after, None) != _texts(before, cleaner):
        raise Unfit("what looks like a secret lies in several pieces of the stream; nothing was written")
    events = [event.data for event in SseDecoder().feed(clean) if event.data.startswith("{")]
    texts = [clean.decode(), *(json.dumps(json.loads(data), ensure_ascii=False) for data in events)]
    if any(map(cleaner.leaks, texts)):
        raise Unfit("a secret still stands in the stream; nothing was written")
    return clean, after


def _chunks(protocol: str, data: bytes) -> Iterator[Chunk]:
    """The product's own reading of a stream. Raises ProviderError."""
    stream: AnswerStream
    if protocol == "claude":
        stream = MessageStream("the provider")
    else:
        stream = (ChatStream if protocol == "chat" else ResponsesStream)("the provider")
    for event in SseDecoder().feed(data):
        yield from stream.feed(event)
        failure = getattr(stream, "failure", None)
        if failure is not None:
            raise failure
        if stream.ended:
            return
    raise stream.broken_off()


def _comparable(chunk: Chunk, cleaner: Cleaner | None) -> object:
    """A chunk without what is replaced on purpose: ids, and what stands in a vendor's own block."""
    match chunk:
        case Delta(block, text):
            return block, _cleaned(text, cleaner)
        case BlockStarted(block, kind, call, name):
            return block, kind, call is None, name
        case VendorBlock(block, kind, raw):
            return block, kind, sorted(msgspec.json.decode(raw, type=dict[str, msgspec.Raw]))
        case Ended(reason, vendor_reason, response, _):
            return reason, vendor_reason, response is None
    return chunk


def _texts(chunks: Iterable[Chunk], cleaner: Cleaner | None) -> dict[int, str]:
    """Each block's whole text."""
    texts: dict[int, str] = {}
    for chunk in chunks:
        if isinstance(chunk, Delta):
            texts[chunk.block] = texts.get(chunk.block, "") + chunk.text
    return {block: _cleaned(text, cleaner) for block, text in texts.items()}


def _cleaned(text: str, cleaner: Cleaner | None) -> str:
    """In the form in which it stood in the stream."""
    quoted = _as_json(text)
    return quoted if cleaner is None else cleaner.clean(quoted.encode()).decode()


def _write(path: Path, data: bytes) -> None:
    """All of it, or nothing."""
    beside = path.with_suffix(".part")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise Unfit(f"{path.name} cannot be written: {type(error).__name__}") from None


if __name__ == "__main__":
    run(record_wire, "scripts/record_wire")
