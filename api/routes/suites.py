"""Suites: named lists of references to recorded turns."""

from __future__ import annotations

from urllib.parse import quote

from litestar import Response, delete, get, post, put
from litestar.params import FromPath, JSONBody

from ...engine import Suite, SuiteItem
from ..http.body import Http
from ..schemas.answers import SuiteList
from ..schemas.bodies import SuiteIn, SuiteItemIn, SuiteItemsIn
from ..schemas.parameters import (
    Chat,
    Cursor,
    IdempotencyKey,
    IfMatch,
    Limit,
    caller_of,
    expected_version,
    request_key,
)


@post("/api/suites", status_code=201)
async def create_suite(
    request: Http, chat: Chat, data: JSONBody[SuiteIn], idempotency_key: IdempotencyKey = None
) -> Response[Suite]:
    """Make a suite of recorded turns. An empty one of this name is filled."""
    suite = await chat.create_suite(
        data.name,
        _items(data.items),
        request=await request_key(request, idempotency_key),
        caller=caller_of(request),
    )
    headers = _etag(suite) | {"location": f"/api/suites/{quote(suite.name, safe='')}"}
    return Response(suite, status_code=201, headers=headers)


@get("/api/suites")
async def list_suites(request: Http, chat: Chat, limit: Limit = 100, cursor: Cursor = None) -> SuiteList:
    """List suites in order of their names."""
    page = await chat.suites(limit=limit, after=cursor, caller=caller_of(request))
    return SuiteList(page.items, page.next)


@get("/api/suites/{name:str}")
async def get_suite(request: Http, chat: Chat, name: FromPath[str]) -> Response[Suite]:
    """Read a suite."""
    return _answer(await chat.suite(name, caller=caller_of(request)))


@put("/api/suites/{name:str}")
async def set_suite(
    request: Http, chat: Chat, name: FromPath[str], data: JSONBody[SuiteItemsIn], if_match: IfMatch = None
) -> Response[Suite]:
    """Let a suite hold these turns, and no others."""
    expected = expected_version(if_match)
    return _answer(await chat.set_suite(name, _items(data.items), expected=expected, caller=caller_of(request)))


@delete("/api/suites/{name:str}", status_code=200)
async def delete_suite(request: Http, chat: Chat, name: FromPath[str], if_match: IfMatch = None) -> Response[Suite]:
    """Empty a suite. Its past stays on record, and its name may be filled again."""
    expected = expected_version(if_match)
    return _answer(await chat.delete_suite(name, expected=expected, caller=caller_of(request)))


def _items(given: tuple[SuiteItemIn, ...]) -> list[SuiteItem | str]:
    return [
        str(each.turn_id) if each.session_id is None else SuiteItem(each.session_id, each.turn_id) for each in given
    ]


def _answer(suite: Suite) -> Response[Suite]:
    return Response(suite, headers=_etag(suite))


def _etag(suite: Suite) -> dict[str, str]:
    return {"etag": f'"{suite.version}"'}


ROUTES = [create_suite, list_suites, get_suite, set_suite, delete_suite]
