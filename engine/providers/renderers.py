"""All renderers that there ever were, by name: a recorded request is derived again also where its provider is not
configured any more. They are pure, and need no key.

A renderer is only ever added here. A new shape of requests has a new name; what bears an old one was sent so.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import UnknownRenderer
from .anthropic.parameters_render import check_values as check_anthropic
from .anthropic.render import RENDERERS as OF_ANTHROPIC
from .base import Parameters, Renderer
from .echo import RENDERERS as OF_ECHO
from .openai.chat_render import RENDERERS as OF_CHAT
from .openai.responses_render import RENDERERS as OF_RESPONSES
from .registry import Providers
from .scripted import RENDERERS as OF_SCRIPTS

RENDERERS: Mapping[str, Renderer] = {**OF_ECHO, **OF_SCRIPTS, **OF_CHAT, **OF_RESPONSES, **OF_ANTHROPIC}


def check_values(renderer: str, parameters: Parameters) -> None:
    """Raises Invalid, which names the parameter, for a value that the renderer's protocol does not take, though the
    renderer renders it. What is on record has been sent, and is not to be checked.
    """
    if renderer in OF_ANTHROPIC:
        check_anthropic(parameters)


def find_renderer(providers: Providers, provider: str, name: str) -> Renderer:
    """The renderer of this name: the provider's own, where it is configured and has it, else one of ours.

    Raises UnknownRenderer, which lists those that there are.
    """
    member = providers.get(provider)
    own = {} if member is None else member.renderers
    found = own.get(name) or RENDERERS.get(name)
    if found is None:
        detail = f"the request was made by {name} of the provider {provider}, which this server does not have"
        raise UnknownRenderer(detail, renderer=name, provider=provider, available=sorted({*own, *RENDERERS}))
    return found
