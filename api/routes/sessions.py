"""Sessions, their messages and their windows."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

import msgspec
from litestar import Request, Response, get, patch, post
from litestar.datastructures import State
from litestar.params import FromQuery, JSONBody

from api.errors import Problem
from api.schemas import (
    MessagesIn,
    SessionIn,
    SessionPatch,
    caller_of,
    check_after,
    if_match,
    read_cursor,
    request_key,
    write_cursor,
)
from engine import Conversation, Message, MessageIn, Page, Session, Window

Http = Request[Any, Any, State]


@post("/api/sessions", status_code=201)
async def create_session(
    request: Http, conversation: Conversation, data: JSONBody[SessionIn] | None
) -> Response[Session]:
    """Begin a session."""
    fields = msgspec.structs.asdict(data) if data is not None else {}
    session = await conversation.create_session(caller_of(request), request=await request_key(request), **fields)
    return _session(session, status_code=201)


@get("/api/sessions")
async def list_sessions(
    request: Http,
    conversation: Conversation,
    order: FromQuery[Literal["activity", "created"]] = "activity",
    status: FromQuery[Literal["active", "archived"] | None] = None,
    limit: FromQuery[int] = 100,
    cursor: FromQuery[str | None] = None,
) -> Page:
    """List sessions, newest activity first; ``order=created`` is stable while sessions are in use."""
    before = read_cursor(cursor, tuple[int, UUID]) if cursor else None
    sessions, more = await conversation.sessions(
        caller_of(request), order=order, status=status, limit=limit, before=before
    )
    return Page(tuple(sessions), write_cursor(more) if more else None)


@get("/api/sessions/{session_id:uuid}")
async def get_session(
    request: Http, conversation: Conversation, session_id: UUID, version: FromQuery[int | None] = None
) -> Response[Session]:
    """A session now, or as it was at a version."""
    session = await conversation.session(session_id, caller_of(request), version=check_after(version, "version"))
    return _session(session)


@patch("/api/sessions/{session_id:uuid}")
async def update_session(
    request: Http, conversation: Conversation, session_id: UUID, data: JSONBody[SessionPatch]
) -> Response[Session]:
    """Change title, system, model, metadata, budgets or status."""
    changes = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not msgspec.UNSET}
    session = await conversation.update_session(session_id, changes, caller_of(request), expected=if_match(request))
    return _session(session)


@post("/api/sessions/{session_id:uuid}/messages", status_code=201)
async def append_message(
    request: Http, conversation: Conversation, session_id: UUID, data: JSONBody[MessagesIn]
) -> Response[Message | Page]:
    """Append a message, or several at once, without running a model."""
    messages = await conversation.append_messages(
        session_id,
        _messages_in(data),
        caller_of(request),
        expected=if_match(request),
        request=await request_key(request),
    )
    headers = {"etag": f'"{messages[-1].version}"'}
    if data.messages is None:
        return Response(messages[0], status_code=201, headers=headers)
    return Response(Page(tuple(messages), None), status_code=201, headers=headers)


@get("/api/sessions/{session_id:uuid}/messages")
async def list_messages(
    request: Http,
    conversation: Conversation,
    session_id: UUID,
    after: FromQuery[int | None] = None,
    limit: FromQuery[int] = 100,
    order: FromQuery[Literal["asc", "desc"]] = "asc",
    cursor: FromQuery[str | None] = None,
) -> Page:
    """A session's messages, after a version in the order asked for."""
    if cursor:
        after = read_cursor(cursor, tuple[int])[0]
    messages, more = await conversation.messages(
        session_id, caller_of(request), after=check_after(after), limit=limit, descending=order == "desc"
    )
    return Page(tuple(messages), write_cursor((messages[-1].version,)) if more else None)


@get("/api/sessions/{session_id:uuid}/window")
async def get_window(
    request: Http,
    conversation: Conversation,
    session_id: UUID,
    budget_tokens: FromQuery[int | None] = None,
    model: FromQuery[str | None] = None,
    version: FromQuery[int | None] = None,
) -> Window:
    """What a model would be sent now, or at a version."""
    return await conversation.window(
        session_id,
        caller_of(request),
        budget_tokens=budget_tokens,
        model=model,
        version=check_after(version, "version"),
    )


def _session(session: Session, status_code: int = 200) -> Response[Session]:
    return Response(session, status_code=status_code, headers={"etag": f'"{session.version}"'})


def _messages_in(data: MessagesIn) -> list[MessageIn]:
    if data.messages is not None:
        if data.content is not None:
            raise Problem(400, "invalid_value", "messages: goes without content", field="messages")
        return [MessageIn(message.content, message.role) for message in data.messages]
    if data.content is None:
        raise Problem(400, "missing_field", "content: is required", field="content")
    return [MessageIn(data.content, data.role)]


ROUTES = [
    create_session,
    list_sessions,
    get_session,
    update_session,
    append_message,
    list_messages,
    get_window,
]
