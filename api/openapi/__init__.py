"""The API's reference: the OpenAPI document, and a page made from it that loads nothing from anywhere.

Litestar writes the document from the handlers; ``document`` adds what it cannot know, with the words of ``tables``. The
page is plain HTML without a script: it works behind a firewall, and tells nobody that it was read.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import msgspec
from litestar import Request, Router
from litestar.enums import MediaType
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import OpenAPIType, Schema
from litestar.plugins import OpenAPISchemaPlugin

from ...engine import version
from .document import PATH, complete
from .page import page

__all__ = ["RawSchema", "config"]


class RawSchema(OpenAPISchemaPlugin):
    """``msgspec.Raw`` is JSON as it was recorded, and always an object: a content block, an event's facts or body."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        return value is msgspec.Raw

    def to_openapi_schema(self, field_definition: Any, schema_creator: Any) -> Schema:  # noqa: ARG002 - Litestar's
        return Schema(type=OpenAPIType.OBJECT)


class _Rendered(OpenAPIRenderPlugin):
    """A rendering that is made once: the document is the same as long as the process runs."""

    _made: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        if self._made is None:
            self._made = self.made_of(complete(openapi_schema))
        return self._made

    @abstractmethod
    def made_of(self, document: dict[str, Any]) -> bytes:
        """The rendering of the whole document."""


class JsonDocument(_Rendered):
    """``/schema/openapi.json``."""

    def __init__(self) -> None:
        super().__init__(path="/openapi.json", media_type=MediaType.JSON)

    def made_of(self, document: dict[str, Any]) -> bytes:
        return msgspec.json.encode(document)


class Page(_Rendered):
    """``/schema``."""

    def __init__(self) -> None:
        super().__init__(path="/", media_type=MediaType.HTML)

    def made_of(self, document: dict[str, Any]) -> bytes:
        return page(document).encode()


class Routes(Router):
    """Litestar's, without its page of HTML for all other paths below: those lead nowhere, as everywhere else."""

    def register(self, value: Any) -> Any:
        return [] if "/{path:str}" in getattr(value, "paths", ()) else super().register(value)


def config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Manent",
        version=version(),
        description="An auditable chat backend: every message is an immutable event.",
        openapi_router=Routes(PATH, route_handlers=[], include_in_schema=False),
        render_plugins=[Page(), JsonDocument()],
        operation_id_creator=lambda handler, *_: handler.handler_name,
        use_handler_docstrings=True,
    )
