"""The decoder of server-sent events, against a plain reading of the standard, and in any split."""

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from manent.engine.errors import ProviderMalformed, ProviderTooLarge
from manent.engine.providers.wire.sse import SseDecoder

lines = st.one_of(
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        ["", "", "", "data: a", "data:\u2028", "data", "event: e", "event:", "id: 1", ": c", "data: \ufeff"]
    ),
)
streams = st.lists(st.tuples(lines, st.sampled_from(["\n", "\r\n", "\r"])), max_size=20).map(
    lambda parts: "".join(line + end for line, end in parts)
)


def plain(text):
    """The standard's own words, without a thought for speed or cuts."""
    events, data, event = [], [], ""
    for line in re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff"))[:-1]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            events += [(event or "message", "\n".join(data))] if data else []
            data, event = [], ""
        elif name == "data":
            data.append(value)
        elif name == "event":
            event = value
    return events


def split(data, cuts):
    """Pieces between the cuts."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def decoded(pieces, limit_bytes=1 << 20):
    """(event, data) of all events, or of those before the failure, and whether there was one."""
    decoder, events = SseDecoder(limit_bytes), []
    try:
        for piece in pieces:
            for event in decoder.feed(piece):
                events.append((event.event, event.data))  # noqa: PERF401 - kept when the next one fails
    except (ProviderMalformed, ProviderTooLarge):
        return events, True
    return events, False


@given(streams, st.lists(st.integers(0, 400), max_size=12))
def test_any_split_gives_what_the_standard_says(text, cuts):
    """Wherever packets end, the events are those of the whole."""
    assert decoded(split(text.encode(), cuts)) == (plain(text), False)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5), st.lists(st.integers(0, 400), max_size=12)
)
def test_whatever_is_sent_arrives(texts, cuts):
    """Any text, sent line by line as the standard asks, is read as it was."""
    texts = [text.replace("\r", "") for text in texts]
    wire = "".join("".join(f"data: {line}\n" for line in text.split("\n")) + "\n" for text in texts)
    assert decoded(split(wire.encode(), cuts)) == ([("message", text) for text in texts], False)


@given(st.binary(max_size=200), st.lists(st.integers(0, 400), max_size=12), st.integers(1, 60))
def test_any_bytes_fail_alike_in_any_split(data, cuts, limit_bytes):
    """Noise, broken UTF-8 and too much of it: the same events come before the same failure."""
    assert decoded(split(data, cuts), limit_bytes) == decoded([data], limit_bytes)
