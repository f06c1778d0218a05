"""Counting: against a second tokenizer, block by block, and the arithmetic of families."""

import itertools
import random
import string
import time

import msgspec
import pytest
from rs_bpe.bpe import openai

from manent.engine.events.blocks import (
    Base64Source,
    ImageBlock,
    OtherBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolSchema,
    ToolUseBlock,
    UrlSource,
)
from manent.engine.providers import tokens
from manent.engine.providers.tokens import (
    FRAME_TOKENS,
    IMAGE_TOKENS,
    SLICE_CHARS,
    UNKNOWN,
    count_content,
    count_text,
    family,
)

REFERENCE = openai.o200k_base()
REFERENCE_CL100K = openai.cl100k_base()

PROSE = (
    "The ferry leaves at seven, whatever the weather. Its captain has a log in which every crossing stands: who came, "
    "what the sea was like, and how long it took. Nobody has ever crossed a line out, and some of them are very odd.\n"
)
CODE = (
    "def greet(name: str) -> str:\n    # Say hello.\n    if not name:\n"
    '        return "?"\n    return f"Hi, {name}!", 42\n'
)
FRENCH = "Il était une fois, dans une ville d'étrangers, un homme très vieux qui n'avait plus rien à dire à personne.\n"
GERMAN = (
    "Die Straßenbahn hält heute wegen Bauarbeiten nicht am Rathaus; bitte benutzen Sie die übernächste Haltestelle.\n"
)
CHINESE = "今天的天气很好，我们一起去公园散步吧。孩子们在草地上放风筝，老人们坐在长椅上聊天。\n"
EMOJI = "Great news! 🎉🎉 We shipped it 🚀 and nobody panicked 😅👍🏽 (family: 👨‍👩‍👧‍👦, flag: 🇫🇷) ❤️\n"

TEXTS = {
    "nothing": "",
    "prose": PROSE,
    "code": CODE,
    "french": FRENCH,
    "german": GERMAN,
    "chinese": CHINESE,
    "emoji": EMOJI,
    "japanese": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。",
    "korean": "옛날 옛적에 호랑이가 담배를 피우던 시절의 이야기입니다.",
    "arabic": "\u200fكان يا ما كان، في قديم الزمان، ملكٌ عادلٌ يحبّه الناس.",
    "hindi": "एक समय की बात है, एक छोटे से गाँव में एक किसान रहता था।",
    "thai": "กาลครั้งหนึ่งนานมาแล้ว มีชายชราคนหนึ่งอาศัยอยู่ริมแม่น้ำ",
    "combining": "e\u0301a\u0308o\u0302" * 20,
    "json": '{"id": 17, "tags": ["a", "b"], "nested": {"ok": true, "ratio": 0.25, "none": null}}',
    "digits": "3.14159265358979 1,000,000 007 2026-11-22T10:15:00Z +49 170 1234567",
    "contractions": "I'll they've DON'T you'd it's he'S 'tis O'Neill's",
    "blanks": "a  b   c\t\td \n\n e\r\n\r\nf \u00a0\u2003g\u2028h\u0085i   ",
    "line ends after punctuation": "a.\n\n b;\r\n/c{\n//d\n",
    "controls": "a\x01\x02\x1cb\x1f\x7f",
    "special tokens": "<|endoftext|><|im_start|>user",
    "private and astral": "\ue000\U0010ffff\U000e0001",
    "base64": "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIAXDIBKE0DHxgljNBAAO9TXL0Y4OHw",
    "rule": "-" * 300 + "\n" + "=" * 77 + "\n" + "#" * 5 + " Title " + "*" * 200,
}

# What SmolLM2's own tokenizer counts for these texts (llama.cpp's /tokenize on the model's file).
SMOLLM2_COUNTS = {"prose": 53, "code": 38, "french": 41, "german": 43, "chinese": 78, "emoji": 63}

# What its chat template makes of a conversation (/apply-template and /tokenize): roles, tokens of the contents, in all.
SMOLLM2_CHATS = [
    (("system", "user"), 5, 19),
    (("system", "user", "assistant", "user"), 7, 32),
]
REPLY_OPENING = 4


def hard_cuts(text):
    """How many slices of a text end where a token may have been cut."""
    pieces = list(tokens.slices(text))
    return sum(not (after.startswith(" ") or before.endswith("\n")) for before, after in itertools.pairwise(pieces))


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_counts_what_a_second_tokenizer_counts(name):
    """Two independent implementations of one vocabulary agree."""
    assert count_text(TEXTS[name]) == REFERENCE.count(TEXTS[name])


def test_mixed_texts_count_what_a_second_tokenizer_counts():
    """Pieces of all scripts, thrown together, still count alike."""
    rng = random.Random(20261122)
    pieces = [word for text in TEXTS.values() for word in text.split(" ")] + [" ", "\n", "  ", "\t", "'s", "1", "."]
    for _ in range(2000):
        text = "".join(rng.choices(pieces, k=rng.randint(1, 12)))
        assert count_text(text) == REFERENCE.count(text), text


@pytest.mark.parametrize("name", ["prose", "code", "german", "chinese", "emoji", "korean", "arabic", "json", "blanks"])
def test_a_long_text_with_blanks_or_line_ends_is_counted_exactly(name):
    """Slices end where no token is cut, so that their counts add up."""
    text = (TEXTS[name] + "\n\n") * (6 * SLICE_CHARS // len(TEXTS[name]))
    assert hard_cuts(text) == 0
    assert count_text(text) == REFERENCE.count(text)


@pytest.mark.parametrize(
    "letters",
    [
        string.ascii_letters + string.digits + "+/",
        string.ascii_lowercase,
        "天地玄黄宇宙洪荒日月盈昃",
        string.punctuation,
    ],
)
def test_a_long_text_without_blanks_is_off_by_two_for_each_cut_at_most(letters):
    """The stated error of a hard cut."""
    text = "".join(random.Random(7).choices(letters, k=20 * SLICE_CHARS))
    assert hard_cuts(text) == 19
    assert abs(count_text(text) - REFERENCE.count(text)) <= 2 * 19


@pytest.mark.parametrize("sign", "-=*/#")
def test_a_long_run_of_one_sign_is_off_by_two_at_most(sign):
    """The stated error of a run that is folded, and of the slices that cut it."""
    for length in (SLICE_CHARS + 1, SLICE_CHARS + 63, 2 * SLICE_CHARS + 130):
        for before, after in (("", ""), (" ", "\n"), ("|", "|"), ("word ", " word"), ("x", ">\n")):
            text = before + sign * length + after
            assert abs(count_text(text) - REFERENCE.count(text)) <= 2, (length, before, after)


def test_slices_join_to_the_text():
    """Nothing is lost or counted twice, and no slice is longer than it may be."""
    text = (CODE + CHINESE + "x" * 700) * 40
    for size in (64, 1000, SLICE_CHARS):
        pieces = list(tokens.slices(text, size))
        assert "".join(pieces) == text
        assert max(map(len, pieces)) <= size


def cpu_ns_per_char(text):
    """Best of five: the others were disturbed."""

    def once():
        start = time.thread_time_ns()
        count_text(text)
        return (time.thread_time_ns() - start) / len(text)

    return min(once() for _ in range(5))


@pytest.mark.parametrize(
    "unit", ["a", "-", "=", " ", "\n", "é", "中", "aA", "-\n", "-" * 127 + "\n", "=" * 64 + " ", "a1", "x" * 9000 + " "]
)
def test_the_cost_grows_with_the_length_alone(unit):
    """Sixteen times the text costs about sixteen times as much, whatever the text is made of."""
    tokens.load()
    short, long = unit * (40_000 // len(unit)), unit * (640_000 // len(unit))
    assert cpu_ns_per_char(long) < 4 * cpu_ns_per_char(short) + 5


def test_no_run_of_signs_costs_more_than_letters_without_a_blank():
    """A line of dashes is what the tokenizer alone is slowest at, and is no way to hold a server up."""
    tokens.load()
    letters = "".join(random.Random(3).choices(string.ascii_lowercase, k=200_000))
    assert cpu_ns_per_char("-" * 200_000) < 2 * cpu_ns_per_char(letters)


def test_the_counter_is_named_in_bounded_ascii():
    """It stands in every message's facts."""
    assert tokens.COUNTER.isascii()
    assert 0 < len(tokens.COUNTER) <= 64


CALL_INPUT = '{"expression": "6 * 7"}'
BLOCKS = {
    "text": (TextBlock(PROSE), count_text(PROSE)),
    "empty text": (TextBlock(""), 0),
    "thinking": (ThinkingBlock(PROSE, msgspec.Raw(b'{"signature": "abc"}')), count_text(PROSE)),
    "thinking without a word": (
        ThinkingBlock("", msgspec.Raw(b'{"signature": "abc"}')),
        count_text('{"signature": "abc"}'),
    ),
    "nothing thought": (ThinkingBlock(""), 0),
    "call as written": (
        ToolUseBlock("c1", "calculator", {"expression": "6 * 7"}, CALL_INPUT),
        FRAME_TOKENS + count_text("calculator") + count_text(CALL_INPUT),
    ),
    "call as parsed": (
        ToolUseBlock("c1", "calculator", {"expression": "6 * 7"}),
        FRAME_TOKENS + count_text("calculator") + count_text('{"expression":"6 * 7"}'),
    ),
    "call without input": (ToolUseBlock("c1", "timestamp"), FRAME_TOKENS + count_text("timestamp")),
    "result": (ToolResultBlock("c1", PROSE), FRAME_TOKENS + count_text(PROSE)),
    "empty result": (ToolResultBlock("c1"), FRAME_TOKENS),
    "result of blocks": (
        ToolResultBlock("c1", (TextBlock(PROSE), ImageBlock(UrlSource("https://example.org/a.png")))),
        FRAME_TOKENS + count_text(PROSE) + IMAGE_TOKENS,
    ),
    "image by url": (ImageBlock(UrlSource("https://example.org/a.png")), IMAGE_TOKENS),
    "image in base64": (ImageBlock(Base64Source("image/png", "iVBORw0KGgo=" * 9000)), IMAGE_TOKENS),
    "unknown": (OtherBlock("new", b'{"type":"new","data":"abc"}'), count_text('{"type":"new","data":"abc"}')),
    "unknown, not UTF-8": (OtherBlock("new", b"\xff"), count_text("\ufffd")),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_each_block_counts_what_is_stated(name):
    """Text and JSON by the tokenizer, images and markup by their constants."""
    block, expected = BLOCKS[name]
    assert count_content((block,)) == expected


def test_a_message_counts_the_sum_of_its_blocks():
    """Blocks are counted one by one."""
    blocks, counts = zip(*BLOCKS.values(), strict=True)
    assert count_content(blocks) == sum(counts)
    assert count_content(()) == 0


def test_tools_count_name_description_and_parameters():
    """A tool's schema costs its JSON, and the markup around it."""
    schema = ToolSchema("echo", "Says it again.", {"type": "object", "properties": {"text": {"type": "string"}}})
    parameters = '{"type":"object","properties":{"text":{"type":"string"}}}'
    expected = FRAME_TOKENS + count_text("echo") + count_text("Says it again.") + count_text(parameters)
    assert tokens.count_tools([schema]) == expected
    assert tokens.count_tools([schema, schema]) == 2 * expected
    assert tokens.count_tools([]) == 0


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4o", "o200k"),
        ("gpt-4o-mini-2024-07-18", "o200k"),
        ("gpt-4.1-nano", "o200k"),
        ("gpt-5", "o200k"),
        ("gpt-5.2-pro", "o200k"),
        ("gpt-oss-20b", "o200k"),
        ("chatgpt-4o-latest", "o200k"),
        ("o1", "o200k"),
        ("o3-pro", "o200k"),
        ("o4-mini", "o200k"),
        ("ft:gpt-4o:acme::7p4lURel", "o200k"),
        ("openai/gpt-5", "o200k"),
        ("gpt-4", "cl100k"),
        ("gpt-4-turbo", "cl100k"),
        ("gpt-3.5-turbo", "cl100k"),
        ("gpt-35-turbo", "cl100k"),
        ("claude-2.1", "claude"),
        ("claude-3-5-sonnet-20241022", "claude"),
        ("claude-3-haiku-20240307", "claude"),
        ("claude-opus-4-20250514", "claude"),
        ("claude-opus-4-1-20250805", "claude"),
        ("claude-sonnet-4-6", "claude"),
        ("anthropic/claude-sonnet-4.5", "claude"),
        ("us.anthropic.claude-3-5-haiku-20241022-v1:0", "claude"),
        ("claude-opus-4-7", "claude-5"),
        ("claude-opus-4-10", "claude-5"),
        ("claude-sonnet-5", "claude-5"),
        ("claude-sonnet-5-20260401", "claude-5"),
        ("claude-mythos-preview", "claude-5"),
        ("smollm2-135m", "smollm2"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2"),
        ("echo", "echo"),
        ("llama3.2:3b", "unknown"),
        ("gpt-4all-j", "unknown"),
        ("gpt-neox-20b", "unknown"),
        ("o1x", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_model_name_gives_its_family(model, expected):
    """By the vendors' ways of naming, with prefixes and dates."""
    assert tokens.family_of(model) == expected
    assert family(expected).name == expected


def test_an_unknown_family_is_the_default():
    """A name that another version recorded still counts."""
    assert family("from the future") is UNKNOWN


@pytest.mark.parametrize("each", tokens.FAMILIES.values(), ids=lambda each: each.name)
def test_a_family_holds_together(each):
    """Default within its bounds, and an exact family has no room to be corrected."""
    assert each.low_permille <= each.factor_permille <= each.high_permille
    assert (each.error_permille == 0) == (each.low_permille == each.high_permille)


def test_claude_bounds_cover_what_is_known():
    """1.7 tokens for a base token up to 4.6, and 1.85 after."""
    for name, safe_permille in (("claude", 1700), ("claude-5", 1850)):
        assert family(name).factor_permille * (1000 + family(name).error_permille) >= safe_permille * 1000


def most(each, base_tokens):
    """The most that a family counts, by its stated error, for the words alone."""
    return tokens.figure(base_tokens, 0, each.factor_permille, 0) * (1000 + each.error_permille) / 1000


@pytest.mark.parametrize("name", SMOLLM2_COUNTS)
def test_stated_errors_hold(name):
    """Against the family's own tokenizer."""
    base_tokens = count_text(TEXTS[name])
    assert REFERENCE_CL100K.count(TEXTS[name]) <= most(family("cl100k"), base_tokens)
    assert SMOLLM2_COUNTS[name] <= most(family("smollm2"), base_tokens)


@pytest.mark.parametrize(("roles", "content_tokens", "total_tokens"), SMOLLM2_CHATS)
def test_overhead_covers_the_chat_template(roles, content_tokens, total_tokens):
    """Messages, and what opens the reply."""
    overhead = family("smollm2").overhead * len(roles)
    assert content_tokens + overhead + REPLY_OPENING >= total_tokens


@pytest.mark.parametrize(
    ("base_tokens", "messages", "factor_permille", "overhead", "expected"),
    [
        (0, 0, 1250, 8, 0),
        (0, 3, 1250, 8, 24),
        (1, 0, 1000, 0, 1),
        (1, 1, 1250, 8, 10),
        (4, 1, 1250, 8, 13),
        (5, 2, 1250, 8, 23),
        (1000, 1, 1001, 4, 1005),
        (999, 1, 1001, 4, 1004),
        (10**15, 1, 1600, 8, 16 * 10**14 + 8),
    ],
)
def test_a_figure_is_rounded_up_once(base_tokens, messages, factor_permille, overhead, expected):
    """Base times factor, upwards, plus the overhead of each message."""
    assert tokens.figure(base_tokens, messages, factor_permille, overhead) == expected


CALIBRATIONS = {
    "what was reported": (("claude", 10_000, 100, 13_800, 10), 1300),
    "rounded up": (("claude", 3_000, 0, 3_900 + 1, 3), 1301),
    "too few attempts": (("claude", 10_000, 100, 13_800, 2), 1250),
    "too few tokens": (("claude", 999, 10, 1_400, 10), 1250),
    "no less than the least seen": (("claude", 10_000, 100, 5_000, 10), 1000),
    "less than the overhead": (("claude", 10_000, 100, 100, 10), 1000),
    "no more than the most seen": (("claude", 10_000, 100, 90_000, 10), 4000),
    "another family, another overhead": (("smollm2", 10_000, 100, 13_800, 10), 1320),
    "exact": (("o200k", 10_000, 100, 13_800, 10), 1000),
    "echo": (("echo", 10_000, 100, 13_800, 10), 1000),
}


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_a_factor_follows_what_vendors_report(name):
    """Sums of past attempts in, a bounded factor out."""
    (family_name, *sums), expected = CALIBRATIONS[name]
    assert tokens.calibrate(family(family_name), *sums) == expected
