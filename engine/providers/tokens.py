"""Token counts without a network: one base count per message, and per model family a factor with a stated error.

A message is counted once, when it is appended, in *base tokens*: those of OpenAI's ``o200k_base`` vocabulary, by
``toktok-rs``, plus the constants below. The count is a fact of its event, beside ``COUNTER``, and is never made again.
What a model of some family would count is arithmetic on sums of base tokens (``figure``), rounded up once, at use.

**Families.** ``o200k`` and ``cl100k`` are OpenAI's vocabularies. Claude 3 and later has no public tokenizer: its
factors are estimates, and 4.7 and the 5 family count about 30 % more than those before (Anthropic's page on token
counting). Family tokens per base token, measured on a handbook in 32 languages, on source code and on translated
interface texts, mostly 60,000 letters a kind (Claude's: by an unofficial reconstruction of its counts):

    ========  =========  ========  ====================  =======  =======  =====  ============
    family    English    code      Europe, Latin script  Chinese  Russian  emoji  worst seen
    ========  =========  ========  ====================  =======  =======  =====  ============
    cl100k    1.0        0.98-1.0  1.0-1.4               1.2-1.6  1.5-1.6  1.3    4.8 Georgian
    claude    1.05-1.15  1.2-1.4   1.05-1.5              1.2-1.5  1.4-1.6  1.9    3.8 Kannada
    claude-5  1.4-1.55   1.5-1.75  1.35-2.0              1.3-1.6  1.5-1.6  2.1    4.0 Kannada
    smollm2   1.03-1.15  1.1-1.35  1.05-1.8              1.7-2.3  2.7-2.9  1.6    5.7 Kannada
    ========  =========  ========  ====================  =======  =======  =====  ============

``calibrate`` moves an estimated factor to what the vendor reports for the very conversation.

**Not in a figure**, and left to the reply's reserve: the three or four tokens that open the reply (OpenAI, ChatML), the
system message of 21 tokens that SmolLM2's template writes where none is given, and the few hundred with which Claude is
told about tools.

**Speed.** Prose costs about 3 ns a letter, random letters without a blank 0.25 us, so a mebibyte of the worst a quarter
of a second. The interpreter's lock is free while a slice is counted: who runs an event loop counts texts of more than
``SLICE_CHARS`` in a thread. The vocabulary is loaded with the first count, in half a second: call ``load`` before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import assert_never

import msgspec
import toktok

from ..events.blocks import (
    Block,
    Content,
    ImageBlock,
    OtherBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolSchema,
    ToolUseBlock,
    is_one_text,
)

COUNTER = "o200k_base/1"
"""The vocabulary, and the version of the rules of this file: any change to what a text or a block counts raises it."""

IMAGE_TOKENS = 1600
"""Any image, by URL or base64 alike: nothing of it is fetched or decoded. About what Claude up to 4.6 (1650) and GPT-4o
(1445) count for a large photograph; models since then count up to nine times as much for the largest."""

FRAME_TOKENS = 8
"""The vendors' markup around a tool's schema, a call or a result, ids included: an estimate. It also makes a result
without a word count as something: it answers a call, and its message has to be sent."""

SLICE_CHARS = 8192
"""Longest text that is given to the tokenizer at once, so that the cost stays linear whatever the tokenizer does with a
long piece. A multiple of 64, the longest run of one sign in the vocabulary."""

_CUT_SEARCH_CHARS = 1024
_ENCODING = "o200k_base"
_NO_LIMIT = 1 << 40

# The pattern by which the vocabulary splits a text never joins a space to a non-blank before it, nor a line end to what
# follows if that is no blank and no '/'. Python's \s matches all that the pattern's does, and a few signs more.
_CLEAN_CUT = re.compile(r".*(?:\S(?= )|\n(?=[^\s/]))", re.DOTALL)

# The vocabulary holds runs of these signs in so many lengths that merging a long one costs up to 0.5 us a letter. A run
# of 64 is one token.
_RULING_SIGNS = "-=*/#"


class Family(msgspec.Struct, frozen=True):
    """A family of models and its way of counting: ``factor_permille`` tokens for 1000 base tokens, ``overhead`` for
    each message.

    ``error_permille``: a true count is over the figure by no more than this, for text in English, in code, in Chinese
    or in a European language of Latin script; 0 is exact, but for what the module's text names as not in a figure.
    ``low_permille`` and ``high_permille`` bound what ``calibrate`` believes: the least and the most seen for any text.
    """

    name: str
    factor_permille: int
    overhead: int
    error_permille: int
    low_permille: int
    high_permille: int


UNKNOWN = Family("unknown", 1200, overhead=6, error_permille=950, low_permille=700, high_permille=6000)
"""Open models know 30,000 to 260,000 words; the error is that of the smallest vocabularies."""

FAMILIES: Mapping[str, Family] = {
    each.name: each
    for each in (
        # Three tokens around a message and one for its role (OpenAI cookbook, "How to count tokens with tiktoken").
        Family("o200k", 1000, overhead=4, error_permille=0, low_permille=1000, high_permille=1000),
        Family("cl100k", 1100, overhead=4, error_permille=430, low_permille=900, high_permille=5000),
        # 6 to 11 tokens a message. The safe bounds are 1.7 and 1.98 for a base token.
        Family("claude", 1250, overhead=8, error_permille=360, low_permille=1000, high_permille=4000),
        Family("claude-5", 1600, overhead=8, error_permille=240, low_permille=1000, high_permille=4200),
        # ChatML: 5 tokens around a message of user or system, 6 around one of the assistant. Each digit is a token.
        Family("smollm2", 1400, overhead=6, error_permille=650, low_permille=1000, high_permille=6000),
        Family("echo", 1000, overhead=0, error_permille=0, low_permille=1000, high_permille=1000),
        UNKNOWN,
    )
}

MIN_SAMPLES = 3
MIN_BASE_TOKENS = 1000

_NEW_CLAUDE = (4, 7)
_CLAUDE_VERSION = re.compile(r"claude.*?(?<!\d)(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_FAMILY_PATTERNS = (
    (re.compile(r"gpt-(4(?![a-z0-9.])|3\.?5)"), "cl100k"),
    (re.compile(r"gpt-(4o|4\.\d|oss|[5-9]|[1-9]\d)|chatgpt-|codex-|o[1-9](?![a-z0-9])"), "o200k"),
    (re.compile(r"smollm2"), "smollm2"),
    (re.compile(r"echo$"), "echo"),
)


# --- base tokens ------------------------------------------------------------------------------------------------------


def load() -> None:
    """Load the vocabulary now, so that the first message does not wait for it."""
    _count_slice("")


def count_text(text: str) -> int:
    """Base tokens of a text; names of special tokens in it are ordinary text.

    Up to ``SLICE_CHARS`` characters it is the tokenizer's own count: exact, but for two letters new in Unicode 17. A
    longer text is counted in slices. That stays exact where a slice ends at a blank or a new line; a hard cut (no such
    place in 1024 characters) and a run of 128 or more of one of ``-=*/#`` can each be wrong by 2.
    """
    if len(text) <= SLICE_CHARS:
        return _count_slice(text)
    folded = _fold_runs(text)
    return (len(text) - len(folded)) // 64 + sum(map(_count_slice, slices(folded)))


def slices(text: str, size: int = SLICE_CHARS) -> Iterator[str]:
    """Cut a text into pieces of at most ``size`` characters, where no token is cut if there is such a place near."""
    start = 0
    while len(text) - start > size:
        end = start + size
        clean = _CLEAN_CUT.match(text, max(start, end - _CUT_SEARCH_CHARS), end)
        if clean is not None:
            end = clean.end()
        yield text[start:end]
        start = end
    yield text[start:]


def count_content(content: Content) -> int:
    """Base tokens of a message's blocks: zero if and only if there is nothing to send in them, that is no block, or
    only texts and thoughts without a character.
    """
    if is_one_text(content):
        return count_text(content[0].text)
    return sum(map(_count_block, content))


def count_tools(schemas: Sequence[ToolSchema]) -> int:
    """Base tokens of the functions that a model may call, their parameters as JSON."""
    return sum(
        FRAME_TOKENS + count_text(schema.name) + count_text(schema.description) + _count_json(schema.parameters)
        for schema in schemas
    )


def _count_block(block: Block) -> int:
    match block:
        case TextBlock(text=text):
            return count_text(text)
        case ThinkingBlock():
            # Claude may give a thought's signature alone: that goes back, and stands for the thought.
            return count_text(block.text) if block.text else _count_raw(bytes(block.vendor or b""))
        case ToolUseBlock():
            return FRAME_TOKENS + count_text(block.name) + _count_input(block)
        case ToolResultBlock(content=inner):
            return FRAME_TOKENS + (count_text(inner) if isinstance(inner, str) else count_content(inner))
        case ImageBlock():
            return IMAGE_TOKENS
        case OtherBlock(raw=raw):
            return _count_raw(raw)
        case _:
            assert_never(block)


def _count_input(block: ToolUseBlock) -> int:
    if block.input_text:
        return count_text(block.input_text)
    return 0 if block.input is None else _count_json(block.input)


def _count_json(value: object) -> int:
    return _count_raw(msgspec.json.encode(value))


def _count_raw(raw: bytes) -> int:
    return count_text(raw.decode("utf-8", "replace"))


def _count_slice(text: str) -> int:
    tokens: int = toktok.truncate(text, _NO_LIMIT, _ENCODING)[1]
    return tokens


def _fold_runs(text: str) -> str:
    """Take 64 signs, a token, out of each long run again and again, until 64 to 127 are left."""
    for sign in _RULING_SIGNS:
        long_run, token = sign * 128, sign * 64
        while long_run in text:
            text = text.replace(long_run, token)
    return text


# --- families ---------------------------------------------------------------------------------------------------------


def family(name: str) -> Family:
    """The family of this name; ``UNKNOWN`` for one that we do not know."""
    return FAMILIES.get(name, UNKNOWN)


def family_of(model_name: str) -> str:
    """The name of the family that a vendor's model name belongs to, with or without prefixes (``vendor/``, ``ft:``)."""
    name = model_name.lower().rsplit("/", 1)[-1].removeprefix("ft:")
    if "claude" in name:
        return _claude_family(name)
    return next((family_name for pattern, family_name in _FAMILY_PATTERNS if pattern.match(name)), UNKNOWN.name)


def _claude_family(name: str) -> str:
    """The family of a Claude model, by version; a name without one is taken for a new model, with the larger and safer
    estimate.
    """
    found = _CLAUDE_VERSION.search(name)
    if found is None:
        return "claude-5"
    return "claude-5" if (int(found[1]), int(found[2] or 0)) >= _NEW_CLAUDE else "claude"


def figure(base_tokens: int, messages: int, factor_permille: int, overhead: int) -> int:
    """The count of a model for ``messages`` messages that are ``base_tokens`` together: base x factor / 1000, rounded
    up, plus the overhead of each message. Nowhere else do base tokens become a model's.
    """
    return -(-base_tokens * factor_permille // 1000) + overhead * messages


def calibrate(default: Family, base_tokens: int, messages: int, reported_tokens: int, samples: int) -> int:
    """The factor, in permille, that past attempts show. What ``samples`` of them sent comes summed, in base tokens and
    in messages (a system prompt is one), and so do the input tokens that the vendor reported for it.

    ``(reported - overhead x messages) x 1000 / base``, rounded up, and kept within the family's bounds. A quotient of
    sums weighs each attempt by its length. The default stands while there are fewer than ``MIN_SAMPLES`` attempts or
    ``MIN_BASE_TOKENS`` base tokens, and always where the family is exact.
    """
    if default.error_permille == 0 or samples < MIN_SAMPLES or base_tokens < MIN_BASE_TOKENS:
        return default.factor_permille
    content_tokens = reported_tokens - default.overhead * messages
    factor_permille = -(-content_tokens * 1000 // base_tokens)
    return min(max(factor_permille, default.low_permille), default.high_permille)
