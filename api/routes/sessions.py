"""Sessions, their messages and their windows."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Response, delete, get, patch, post, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody

from ...engine import Message, MessageIn, Session, Window
from ..http.body import Http
from ..http.errors import invalid
from ..http.pieces import InPieces, as_json
from ..schemas.answers import MessageList, SessionList
from ..schemas.bodies import MessagesIn, SessionIn, SessionPatch
from ..schemas.parameters import (
    After,
    At,
    Chat,
    Cursor,
    IdempotencyKey,
    IfMatch,
    Limit,
    Model,
    Version,
    caller_of,
    expected_version,
    page_start,
    request_key,
)

ALL_DEFAULTS = SessionIn()
Words = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)] | None
WINDOW = ResponseSpec(Window, description="Request fulfilled, document follows", generate_examples=False)


@post("/api/sessions", status_code=201)
async def create_session(
    request: Http,
    chat: Chat,
    data: JSONBody[SessionIn] = ALL_DEFAULTS,
    idempotency_key: IdempotencyKey = None,
) -> Response[Session]:
    """Begin a session."""
    session = await chat.create_session(
        **msgspec.structs.asdict(data),
        request=await request_key(request, idempotency_key),
        caller=caller_of(request),
    )
    return created(session)


def created(session: Session) -> Response[Session]:
    """The answer that tells of a new session."""
    headers = _etag(session.version) | {"location": f"/api/sessions/{session.id}"}
    return Response(session, status_code=201, headers=headers)


@get("/api/sessions")
async def list_sessions(  # noqa: PLR0913, PLR0917 - parameters of the address
    request: Http,
    chat: Chat,
    order: FromQuery[Literal["activity", "created"]] = "activity",
    status: FromQuery[Literal["active", "archived"] | None] = None,
    model: FromQuery[Model | None] = None,
    user_id: FromQuery[Words] = None,
    agent_id: FromQuery[Words] = None,
    title_contains: FromQuery[Words] = None,
    has_failed: FromQuery[bool | None] = None,
    waiting: FromQuery[bool | None] = None,
    branches: FromQuery[Literal["family", "all"]] = "family",
    kind: FromQuery[Literal["conversation", "replay", "any"]] = "conversation",
    limit: Limit = 100,
    cursor: Cursor = None,
) -> SessionList:
    """List sessions, newest activity first; `order=created` is stable while sessions are in use, with `branches=all`.
    Of what is asked for, all must be true; `waiting`: a turn waits for a person. Of each family the member with the
    newest activity is shown, or with `branches=all` every one; `kind`: a `replay` is a fork that a replay made.
    """
    page = await chat.sessions(
        order=order,
        status=status,
        model=model,
        user_id=user_id,
        agent_id=agent_id,
        title_contains=title_contains,
        has_failed=has_failed,
        waiting=waiting,
        branches=branches,
        kind=kind,
        after=cursor,
        limit=limit,
        caller=caller_of(request),
    )
    return SessionList(page.items, page.next)


@get("/api/sessions/{session_id:uuid}")
async def get_session(
    request: Http, chat: Chat, session_id: FromPath[UUID], version: Version = None, at: At = None
) -> Response[Session]:
    """A session now, or as it was at a version or at a time. Words erased since are null."""
    session = await chat.session(session_id, version=version, at=at, caller=caller_of(request))
    return Response(session, headers=_etag(session.version))


@patch("/api/sessions/{session_id:uuid}")
async def update_session(
    request: Http,
    chat: Chat,
    session_id: FromPath[UUID],
    data: JSONBody[SessionPatch],
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response[Session]:
    """Change fields of a session; only those given. A legal hold needs the scope `erase`."""
    caller = caller_of(request, "chat" if data.legal_hold is msgspec.UNSET else "erase")
    session = await chat.update_session(
        session_id,
        **msgspec.structs.asdict(data),
        expected=expected_version(if_match),
        request=await request_key(request, idempotency_key),
        caller=caller,
    )
    return Response(session, headers=_etag(session.version))


@patch("/api/sessions/{session_id:uuid}/metadata")
async def update_metadata(
    request: Http,
    chat: Chat,
    session_id: FromPath[UUID],
    data: JSONBody[dict[str, Any]],
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response[Session]:
    """Change metadata by key, with a JSON merge patch (RFC 7396): null removes a key, objects are merged."""
    session = await chat.update_metadata(
        session_id,
        data,
        expected=expected_version(if_match),
        request=await request_key(request, idempotency_key),
        caller=caller_of(request),
    )
    return Response(session, headers=_etag(session.version))


@post("/api/sessions/{session_id:uuid}/messages", status_code=201)
async def append_message(
    request: Http,
    chat: Chat,
    session_id: FromPath[UUID],
    data: JSONBody[MessagesIn],
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response[Message | MessageList]:
    """Append a message, or several at once, without running a model."""
    messages = await chat.append_messages(
        session_id,
        _messages_in(data),
        expected=expected_version(if_match),
        request=await request_key(request, idempotency_key),
        caller=caller_of(request),
    )
    answer = messages[0] if data.messages is msgspec.UNSET else MessageList(messages, None)
    return Response(answer, status_code=201, headers=_etag(messages[-1].version))


@get("/api/sessions/{session_id:uuid}/messages")
async def list_messages(  # noqa: PLR0913, PLR0917 - parameters of the address
    request: Http,
    chat: Chat,
    session_id: FromPath[UUID],
    after: After = None,
    limit: Limit = 100,
    order: FromQuery[Literal["asc", "desc"]] = "asc",
    cursor: Cursor = None,
    version: Version = None,
    at: At = None,
    siblings: FromQuery[bool] = False,  # noqa: FBT002 - a parameter of the address
) -> MessageList:
    """List a session's messages, after a version in the order asked for: as they are now, or as they were at a version
    or at a time, without the words erased since. With `siblings` each lists those that stand in its place: what follows
    the same message in other conversations of the family.
    """
    page = await chat.messages(
        session_id,
        after=page_start(after, cursor),
        limit=limit,
        descending=order == "desc",
        version=version,
        at=at,
        siblings=siblings,
        caller=caller_of(request),
    )
    return MessageList(page.items, page.next)


@put("/api/sessions/{session_id:uuid}/messages/{version:int}/pin")
async def pin_message(
    request: Http, chat: Chat, session_id: FromPath[UUID], version: FromPath[int], if_match: IfMatch = None
) -> Message:
    """Keep a message in every window. One that is pinned stays so, without an event. Not while a turn runs."""
    return await chat.pin(session_id, version, expected=expected_version(if_match), caller=caller_of(request))


@delete("/api/sessions/{session_id:uuid}/messages/{version:int}/pin", status_code=200)
async def unpin_message(
    request: Http, chat: Chat, session_id: FromPath[UUID], version: FromPath[int], if_match: IfMatch = None
) -> Message:
    """Keep a message in every window no longer."""
    return await chat.unpin(session_id, version, expected=expected_version(if_match), caller=caller_of(request))


@get("/api/sessions/{session_id:uuid}/window", responses={200: WINDOW})
async def get_window(
    request: Http,
    chat: Chat,
    session_id: FromPath[UUID],
    budget_tokens: FromQuery[int | None] = None,
    model: FromQuery[Model | None] = None,
    version: Version = None,
    at: At = None,
    exact: FromQuery[bool] = False,  # noqa: FBT002 - a parameter of the address
) -> InPieces:
    """Read the window that a model would be sent now, or at a version or a time, counted as it is now. With `exact`
    the vendor counts the tokens, where it does.
    """
    window = await chat.window(
        session_id,
        budget_tokens=budget_tokens,
        model=model,
        version=version,
        at=at,
        exact=exact,
        caller=caller_of(request),
    )
    return as_json(window, "messages")


def _etag(version: int) -> dict[str, str]:
    return {"etag": f'"{version}"'}


def _messages_in(data: MessagesIn) -> list[MessageIn]:
    if data.messages is not msgspec.UNSET:
        if data.content is not msgspec.UNSET or data.role is not msgspec.UNSET:
            raise invalid("messages", "goes without content and role")
        return [MessageIn(message.content, message.role) for message in data.messages]
    if data.content is msgspec.UNSET:
        raise invalid("content", "is required", "missing_field")
    return [MessageIn(data.content, "user" if data.role is msgspec.UNSET else data.role)]


ROUTES = [
    create_session,
    list_sessions,
    get_session,
    update_session,
    update_metadata,
    append_message,
    list_messages,
    pin_message,
    unpin_message,
    get_window,
]
