"""``GET /v1/models``: the models that are served, as one object that both vendors' clients read.

Any of them can be asked behind any door. When a model was released is not known here: that is the epoch, as both
protocols have it.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import get
from litestar.params import FromPath, FromQuery, QueryParameter

from ...engine import Model, UnknownModel
from ..http.body import Http
from ..http.errors import Problem, invalid
from ..schemas.parameters import Chat, caller_of

EPOCH = "1970-01-01T00:00:00Z"

Limit = Annotated[int | None, QueryParameter(ge=1, le=1000, description="The most models on a page; by default all.")]


class VendorModel(msgspec.Struct, frozen=True):
    """A model, with the fields of both vendors. ``id`` is its full name, by which it is asked for."""

    id: str
    owned_by: str
    display_name: str
    max_input_tokens: int | None
    max_tokens: int | None
    object: str = "model"
    type: str = "model"
    created: int = 0
    created_at: str = EPOCH
    lifecycle: str = "active"


class VendorModels(msgspec.Struct, frozen=True):
    """A page of models."""

    data: list[VendorModel]
    has_more: bool
    first_id: str | None
    last_id: str | None
    object: str = "list"


@get("/v1/models")
async def list_vendor_models(
    request: Http,
    chat: Chat,
    limit: Limit = None,
    after_id: FromQuery[str | None] = None,
    before_id: FromQuery[str | None] = None,
) -> VendorModels:
    """List the models that are known to be served, as either vendor's clients read them.

    `after_id` and `before_id` name a model that the page begins after, or ends before.
    """
    caller_of(request)
    models = [_shown(model) for model in chat.models()]
    names = [model.id for model in models]
    begin = 0 if after_id is None else _place(names, "after_id", after_id) + 1
    end = len(models) if before_id is None else _place(names, "before_id", before_id)
    most = len(models) if limit is None else limit
    if before_id is not None and after_id is None:
        page, more = models[max(begin, end - most) : end], end - begin > most
    else:
        page, more = models[begin : min(begin + most, end)], end - begin > most
    return VendorModels(page, more, page[0].id if page else None, page[-1].id if page else None)


@get("/v1/models/{model_id:path}")
async def get_vendor_model(request: Http, chat: Chat, model_id: FromPath[str]) -> VendorModel:
    """Show one model that is served, also one that is not listed."""
    caller_of(request)
    try:
        return _shown(chat.model(model_id.removeprefix("/")))
    except UnknownModel as error:
        raise Problem(404, error.code, error.detail, None, **error.extra) from None


def _shown(model: Model) -> VendorModel:
    name = model.name.partition("/")[2]
    return VendorModel(model.name, model.provider, name, model.context_tokens, model.max_output_tokens)


def _place(names: list[str], field: str, name: str) -> int:
    """Where a model stands in the list. Raises Problem."""
    try:
        return names.index(name)
    except ValueError:
        raise invalid(field, "is no model of the list") from None


ROUTES = [list_vendor_models, get_vendor_model]
