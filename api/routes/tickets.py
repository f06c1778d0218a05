"""The route for tickets."""

from __future__ import annotations

import re

from litestar import post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from ...engine import rfc3339
from ..http.body import Http
from ..http.errors import invalid
from ..http.tickets import Tickets
from ..schemas.answers import Ticket
from ..schemas.bodies import TicketIn
from ..schemas.parameters import identity_of

_PATH = re.compile(r"/[!-\"$->@-~]*")


@post("/api/tickets")
async def issue_ticket(request: Http, tickets: NamedDependency[Tickets], data: JSONBody[TicketIn]) -> Ticket:
    """Issue a ticket for a browser's EventSource, which can send no headers.

    As `?ticket=` it stands for the key that asked for it: for GET of this one path (as it is written in the URL,
    without the query, which may be any), for 60 seconds. A stream that was begun with it goes on after that.
    """
    if not _PATH.fullmatch(data.path):
        raise invalid("path", "must be the path of a URL, without a query")
    ticket, expires_us = tickets.issue(identity_of(request), data.path)
    return Ticket(ticket, rfc3339(expires_us))


ROUTES = [issue_ticket]
