"""Settings: one frozen value, built once from a mapping that is passed in.

Every field is a setting ``MANENT_<FIELD>`` and an option ``--<field>`` of ``manent serve``. Units stand last in
the names. A few keys also have the names that the vendors' own tools use (``OPENAI_API_KEY``), and every key can
be read from a file (``…_FILE``). Secrets never show in a repr.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .errors import Invalid

PREFIX = "MANENT_"
VENDOR_NAMES = {"openai_api_key": "OPENAI_API_KEY", "anthropic_api_key": "ANTHROPIC_API_KEY"}

Count = Annotated[int, Meta(ge=1)]


class Secret(str):
    """A text that does not show itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret('…')"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set, with its default."""

    database: Annotated[str, Meta(description="file path or SQLAlchemy URL of the database")] = "manent.db"
    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on; 0 takes a free one")] = 8000
    model: Annotated[
        str | None,
        Meta(description="model of a session that names none [local/smollm2-135m, or echo/echo without the extra]"),
    ] = None
    api_keys_file: Annotated[str | None, Meta(description="JSON file of API keys: id, sha256, tenant, scopes")] = None
    cors_origins: Annotated[str, Meta(description="origins that browsers may call from, comma-separated")] = ""
    openai_api_key: Annotated[str | None, Meta(description="key for OpenAI (also OPENAI_API_KEY, …_FILE)")] = None
    openai_base_url: Annotated[str, Meta(description="base URL of an OpenAI-compatible API")] = (
        "https://api.openai.com/v1"
    )
    openai_api: Annotated[
        Literal["chat", "responses"], Meta(description="OpenAI's protocol that is spoken: chat or responses")
    ] = "chat"
    anthropic_api_key: Annotated[str | None, Meta(description="key for Anthropic (also ANTHROPIC_API_KEY, …_FILE)")] = (
        None
    )
    anthropic_base_url: Annotated[str, Meta(description="base URL of an API like Anthropic's")] = (
        "https://api.anthropic.com"
    )
    anthropic_version: Annotated[
        Literal["2023-06-01", "2026-10-21"],
        Meta(
            description="version of Anthropic's API; the newer one refuses sampling parameters, so that requests with "
            "some are sent with the older one"
        ),
    ] = "2023-06-01"
    anthropic_cache: Annotated[bool, Meta(description="set prompt-cache breakpoints in requests to Anthropic")] = False
    models_file: Annotated[
        str | None, Meta(description="JSON file of models and prices, laid over the catalogue that is shipped")
    ] = None
    routes_file: Annotated[
        str | None, Meta(description="JSON file of routes: names that stand for several models, called route/NAME")
    ] = None
    mcp_servers_file: Annotated[
        str | None, Meta(description="JSON file of MCP servers whose tools are offered (extra `mcp`)")
    ] = None
    script: Annotated[str | None, Meta(description="file of answers for the scripted provider")] = None

    checkpoint_file: Annotated[
        str | None, Meta(description="file that signed checkpoints are appended to [DATABASE.checkpoints]")
    ] = None
    signing_key_file: Annotated[
        str | None, Meta(description="Ed25519 private key (PEM) that signs checkpoints [DATABASE.key, made if need be]")
    ] = None
    secret_file: Annotated[
        str | None,
        Meta(description="secret that idempotency keys are hashed with; back it up with the key [DATABASE.secret]"),
    ] = None
    verify_key: Annotated[
        str | None, Meta(description="verifier key (name+hash+key) that `manent verify` trusts, not the key file's")
    ] = None
    checkpoint_every_s: Annotated[
        Count, Meta(description="a checkpoint is signed every so many seconds, if there is something new")
    ] = 60

    max_message_bytes: Annotated[
        Count,
        Meta(
            description="largest message, bytes of its content blocks as compact JSON in UTF-8; largest system prompt, "
            "bytes of its text"
        ),
    ] = 1 << 20
    max_messages: Annotated[Count, Meta(description="most messages in one request")] = 100
    max_pins: Annotated[Count, Meta(description="most messages of a session that are pinned at once")] = 100
    max_blocks: Annotated[Count, Meta(description="most content blocks in one message")] = 1000
    max_forks: Annotated[Count, Meta(description="most forks of sessions that come from one")] = 10_000
    max_title_chars: Annotated[Count, Meta(description="longest title, characters")] = 500
    max_name_chars: Annotated[
        Count, Meta(description="longest user_id or agent_id of a session, or name of a suite, characters")
    ] = 200
    max_metadata_bytes: Annotated[Count, Meta(description="largest metadata of a session, bytes as JSON")] = 16 << 10
    max_body_bytes: Annotated[Count, Meta(description="largest request body, bytes")] = 8 << 20
    max_import_events: Annotated[Count, Meta(description="most events of a session that is imported")] = 100_000
    drop_in_max_messages: Annotated[
        Count, Meta(description="most messages of a history that a client sends to a drop-in route")
    ] = 10_000
    drop_in_max_body_bytes: Annotated[Count, Meta(description="largest request body of a drop-in route, bytes")] = (
        32 << 20
    )
    drop_in_max_block_bytes: Annotated[
        Count, Meta(description="largest block of a message of such a history, bytes as JSON")
    ] = 20 << 20
    max_conversation_items: Annotated[
        Count, Meta(description="most items that a client's conversation begins with, or is added at once")
    ] = 20
    max_page_bytes: Annotated[
        Count,
        Meta(description="largest page of a list, bytes; it ends early where its items are large, after one at least"),
    ] = 4 << 20
    max_scanned_events: Annotated[
        Count,
        Meta(
            description="events of the log that one page looks through for those of some types; the next goes on there"
        ),
    ] = 100_000
    max_header_bytes: Annotated[Count, Meta(description="largest request line and headers together, bytes")] = 32 << 10
    max_budget_tokens: Annotated[Count, Meta(description="largest token budget that may be asked for")] = 10_000_000
    budget_tokens: Annotated[Count, Meta(description="token budget of a session that sets none")] = 8192
    reserve_tokens: Annotated[
        Count, Meta(description="tokens kept for the reply when none are asked for, at most a quarter of the budget")
    ] = 1024

    turn_timeout_s: Annotated[Count, Meta(description="longest turn, seconds")] = 600
    connect_timeout_s: Annotated[Count, Meta(description="longest wait for a connection to a provider, seconds")] = 10
    first_chunk_timeout_s: Annotated[
        Count, Meta(description="longest wait for the first chunk of an answer, seconds")
    ] = 120
    idle_timeout_s: Annotated[Count, Meta(description="longest wait between chunks of an answer, seconds")] = 60
    max_answer_bytes: Annotated[
        Count, Meta(description="largest answer of a model, bytes of text; a longer one fails the turn")
    ] = 4 << 20
    max_attempts: Annotated[Count, Meta(description="most requests to one model for one round of a turn")] = 3
    retry_base_ms: Annotated[Count, Meta(description="first wait before a request is repeated, at most, ms")] = 500
    retry_cap_s: Annotated[Count, Meta(description="longest of these waits, seconds")] = 8
    retry_for_s: Annotated[Count, Meta(description="how long after a round's beginning it is still repeated")] = 60
    breaker_failures: Annotated[
        Count, Meta(description="failures in a row after which a provider is left alone for a while")
    ] = 10
    breaker_window_s: Annotated[Count, Meta(description="within how many seconds they must come")] = 60
    breaker_open_s: Annotated[Count, Meta(description="how long it is left alone, seconds")] = 15
    max_provider_requests: Annotated[Count, Meta(description="most requests to one provider at once")] = 512
    max_provider_waiting: Annotated[Count, Meta(description="most turns waiting for one provider")] = 1000
    provider_wait_s: Annotated[Count, Meta(description="longest wait for a provider that is busy, seconds")] = 30
    key_requests_per_min: Annotated[
        Count | None, Meta(description="most turns that one API key starts in a minute; more are refused with 429")
    ] = None
    key_tokens_per_min: Annotated[
        Count | None, Meta(description="most tokens, in and out, that one API key uses in a minute")
    ] = None
    provider_requests_per_min: Annotated[
        Count | None,
        Meta(description="most requests to one provider in a minute; more wait, as long as for a busy provider"),
    ] = None
    provider_tokens_per_min: Annotated[
        Count | None, Meta(description="most tokens, in and out, of one provider in a minute")
    ] = None
    max_rounds: Annotated[Count, Meta(description="most rounds of model and tools in a turn")] = 16
    max_turn_tokens: Annotated[
        Count, Meta(description="tokens, in and out, after which a turn begins no further round")
    ] = 2_000_000
    max_tools: Annotated[Count, Meta(description="most tools offered in one turn")] = 128
    max_tools_bytes: Annotated[Count, Meta(description="largest schemas of a turn's tools, bytes as JSON")] = 256 << 10
    max_schema_bytes: Annotated[
        Count, Meta(description="largest JSON Schema that an answer must be of, and largest description of it, bytes")
    ] = 64 << 10
    tool_timeout_s: Annotated[Count, Meta(description="longest run of a tool, seconds")] = 30
    max_tool_output_bytes: Annotated[
        Count, Meta(description="largest output of a tool, bytes; the rest is cut off")
    ] = 16 << 10
    max_parallel_tools: Annotated[Count, Meta(description="most tools of one turn running at once")] = 8
    max_tool_threads: Annotated[Count, Meta(description="most tools running in threads at once")] = 16
    max_reason_chars: Annotated[Count, Meta(description="longest reason of a decision, characters")] = 2000
    replay_jobs: Annotated[Count, Meta(description="turns that a replay asks at once, if it does not say")] = 4
    max_replay_jobs: Annotated[Count, Meta(description="most turns that one replay may ask at once")] = 64
    replay_turns: Annotated[Count, Meta(description="most turns of a replay that does not say")] = 1000
    max_replay_turns: Annotated[Count, Meta(description="most turns that one replay may do again, or a suite hold")] = (
        10_000
    )
    max_open_turns: Annotated[Count, Meta(description="most turns running at once")] = 1000
    max_readers: Annotated[Count, Meta(description="most open event streams at once")] = 2000
    cancel_unread_after_s: Annotated[
        int, Meta(ge=0, description="cancel a turn that nobody has read for so long, seconds; 0: never")
    ] = 0
    disconnect_grace_s: Annotated[
        Count,
        Meta(description="cancel a turn of a drop-in route so long after its last reader disconnected, seconds"),
    ] = 10
    retry_attach_s: Annotated[
        Count,
        Meta(description="how long after its end a turn still answers a client's automatic retry, seconds"),
    ] = 60
    store_false_erase_after_s: Annotated[
        int,
        Meta(ge=0, description="how long after its end an answer is erased that was asked not to be stored, seconds"),
    ] = 30
    store_false_purge_every_s: Annotated[
        Count, Meta(description="least time between two purges of the file after such erasures, seconds")
    ] = 60
    keep_store_false: Annotated[bool, Meta(description="erase nothing that was asked not to be stored")] = False
    tail_frames: Annotated[Count, Meta(description="frames of a running turn kept in memory for its readers")] = 1024
    client_stall_s: Annotated[
        Count,
        Meta(description="how long a client may take nothing of an answer, or send nothing of a request, seconds"),
    ] = 30
    max_connections: Annotated[
        Count, Meta(description="most connections at once; as many as the system allows, if that is less")
    ] = 5000
    max_bodies_bytes: Annotated[
        Count, Meta(description="bodies of all requests being answered, together, bytes; more are refused with 503")
    ] = 256 << 20
    max_exports: Annotated[Count, Meta(description="most exports at once over HTTP; more are refused with 503")] = 2
    drain_s: Annotated[int, Meta(ge=0, description="how long a shutdown waits for running turns, seconds")] = 10
    lease_s: Annotated[
        Count, Meta(description="how long a running turn is its process's without a sign of life, seconds")
    ] = 30
    keepalive_s: Annotated[Count, Meta(description="comment on a silent event stream every so many seconds")] = 15

    queue_writes: Annotated[
        Count, Meta(description="most writes waiting for the writer; more are refused with 503")
    ] = 10_000
    batch_writes: Annotated[Count, Meta(description="most writes in one transaction")] = 512
    reader_threads: Annotated[Count, Meta(description="threads that read the database")] = 4
    max_damaged_rows: Annotated[
        Count, Meta(description="damaged rows that are told apart; more are neither counted nor logged")
    ] = 10_000
    cached_sessions: Annotated[Count, Meta(description="session states the writer keeps in memory")] = 10_000
    checkpoint_pages: Annotated[Count, Meta(description="pages in SQLite's write-ahead log before a checkpoint")] = 1000

    log_format: Annotated[
        Literal["text", "json"], Meta(description="form of the log lines on standard error: text or json")
    ] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="least level that is logged: debug, info, warning or error"),
    ] = "info"


def from_mapping(values: Mapping[str, str], **overrides: Any) -> Settings:
    """Settings from an environment-like mapping; ``overrides`` (None: not given) come before it.

    Raises Invalid, which names the setting.
    """
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        raw = _lookup(field.name, values)
        if raw is not None:
            found[field.name] = raw
    found |= {name: value for name, value in overrides.items() if value is not None}
    return _convert(found)


def env_name(field: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + field.upper()


def unknown_names(values: Mapping[str, str]) -> list[str]:
    """Names in a mapping that look like settings and are none: somebody's slip."""
    fields = [field.name for field in msgspec.structs.fields(Settings)]
    known = {env_name(name) for name in fields} | {f"{env_name(name)}_FILE" for name in fields if name.endswith("_key")}
    return sorted(name for name in values if name.startswith(PREFIX) and name not in known)


def _lookup(field: str, values: Mapping[str, str]) -> str | None:
    for name in (env_name(field), VENDOR_NAMES.get(field)):
        if name is None:
            continue
        if values.get(name):
            return values[name]
        if field.endswith("_key") and values.get(f"{name}_FILE"):
            return _read_secret(f"{name}_FILE", values[f"{name}_FILE"])
    return None


def _read_secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(name, f"cannot be read: {error.__class__.__name__}") from None


def _convert(found: dict[str, Any]) -> Settings:
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        if field.name not in found:
            continue
        try:
            values[field.name] = msgspec.convert(found[field.name], field.type, strict=False)
        except msgspec.ValidationError as error:
            raise Invalid(env_name(field.name), str(error)) from None
        if field.name.endswith("_key"):
            values[field.name] = Secret(values[field.name])
    return Settings(**values)


def version() -> str:
    return installed("manent")
