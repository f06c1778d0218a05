"""The decoder of server-sent events: lines, fields, cuts and limits."""

import pytest

from manent.engine.errors import ProviderMalformed, ProviderTooLarge
from manent.engine.providers.wire.sse import SseDecoder, SseEvent


def events_of(*pieces, limit_bytes=1 << 20):
    """What a stream gives that comes in these pieces, as (event, data)."""
    decoder = SseDecoder(limit_bytes)
    return [(event.event, event.data) for piece in pieces for event in decoder.feed(piece)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [("message", "a")]),
        (b"data:a\n\n", [("message", "a")]),
        (b"data:  a \n\n", [("message", " a ")]),
        (b"data\n\n", [("message", "")]),
        (b"data:\n\n", [("message", "")]),
        (b"data\ndata\n\n", [("message", "\n")]),
        (b"data: a\ndata: b\n\n", [("message", "a\nb")]),
        (b"event: ping\ndata: a\n\n", [("ping", "a")]),
        (b"data: a\nevent:ping\n\ndata: b\n\n", [("ping", "a"), ("message", "b")]),
        (b"event: a\nevent: b\ndata: x\n\n", [("b", "x")]),
        (b"event: lonely\n\ndata: a\n\n", [("message", "a")]),
        (b"id: 7\nretry: 5\ndata: a\n\n", [("message", "a")]),
        (b"error: none of ours\ndata: a\n\n", [("message", "a")]),
        (b": comment\n\n:\n\ndata: a\n: between\ndata: b\n\n", [("message", "a\nb")]),
        (b"data: a:b: c\n\n", [("message", "a:b: c")]),
        (b" data: not a field\ndata: a\n\n", [("message", "a")]),
        (b"DATA: not a field\ndatas: nor this\n\n", []),
        (b"\n\n\n", []),
        (b"", []),
    ],
)
def test_fields_are_read_as_the_standard_says(stream, events):
    """Data, its lines, the event's name, and all that means nothing to us."""
    assert events_of(stream) == events


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_every_line_end_ends_a_line_in_every_cut(line_end):
    """Also CR and LF that came apart."""
    stream = b"event: x\ndata: a\ndata: b\n\n: c\n\ndata: d\n\n".replace(b"\n", line_end)
    expected = [("x", "a\nb"), ("message", "d")]
    for cut in range(len(stream) + 1):
        assert events_of(stream[:cut], b"", stream[cut:]) == expected
    assert events_of(*(stream[at : at + 1] for at in range(len(stream)))) == expected


def test_a_cr_ends_the_event_without_waiting_for_more():
    """Whether an LF follows is not known until the next packet, which may never come."""
    assert events_of(b"data: a\r\r") == [("message", "a")]


def test_line_ends_may_be_mixed():
    """CR LF CR is two line ends, LF CR too."""
    assert events_of(b"data: a\r\n\rdata: b\n\rdata: c\r\r\n") == [("message", "a"), ("message", "b"), ("message", "c")]


def test_other_separators_of_unicode_stay_in_the_data():
    """U+2028, U+2029, U+0085, VT and FF end no line of a stream."""
    text = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg"
    stream = f"data: {text}\n\n".encode()
    for cut in range(len(stream) + 1):
        assert events_of(stream[:cut], stream[cut:]) == [("message", text)]


def test_a_byte_order_mark_is_passed_over_at_the_start_alone():
    """Later it is a character of a text."""
    stream = "\ufeffdata: a\ufeff\n\n\ufeffdata: b\n\n".encode()
    for cut in range(len(stream) + 1):
        assert events_of(stream[:cut], stream[cut:]) == [("message", "a\ufeff")]
    assert events_of(b"\xef", b"\xbb", b"\xbf", b"data: a\n\n") == [("message", "a")]
    assert events_of(b"\xef\xbbdata: a\ndata: b\n\n") == [("message", "b")]


def test_an_unfinished_event_is_never_given():
    """A stream that breaks off has not said what stood in it."""
    assert events_of(b"data: a\n\ndata: b\n") == [("message", "a")]
    assert events_of(b"data: a\n\ndata: b") == [("message", "a")]


@pytest.mark.parametrize(
    "bad", [b"data: \xff\n\n", b"data: \xc3\n\n", b"data: \xed\xa0\xbd\n\n", b"event: \xff\ndata: a\n\n"]
)
def test_bytes_that_are_not_utf8_are_malformed(bad):
    """They are never guessed at; what came before them is given."""
    decoder = SseDecoder()
    feed = decoder.feed(b"data: good\n\n" + bad)
    assert next(feed) == SseEvent("message", "good")
    with pytest.raises(ProviderMalformed):
        next(feed)


def test_what_means_nothing_may_be_any_bytes():
    """Comments are not decoded."""
    assert events_of(b": \xff\nother: \xff\ndata: a\n\n") == [("message", "a")]


@pytest.mark.parametrize(
    "endless", [b"data: " + b"x" * 500, b"data: x\n" * 100, b": " + b"x" * 500, b"x" * 500, b"event: " + b"x" * 500]
)
@pytest.mark.parametrize("piece_bytes", [1, 7, 1000])
def test_an_event_over_the_limit_is_too_large(endless, piece_bytes):
    """A line, many lines, a comment without an end: nothing grows past the limit, however it comes."""
    decoder = SseDecoder(limit_bytes=100)
    fed = 0
    with pytest.raises(ProviderTooLarge, match="100 bytes"):  # noqa: PT012 - which piece raises is what is shown
        for at in range(0, len(endless), piece_bytes):
            fed += len(endless[at : at + piece_bytes])
            list(decoder.feed(endless[at : at + piece_bytes]))
    assert fed <= 120 or piece_bytes == 1000


def test_an_event_at_the_limit_passes_and_the_next_has_it_anew():
    """The limit is an event's and not a stream's; comments that are over count for nothing."""
    event = b"data: " + b"x" * 94 + b"\n\n"
    assert len(events_of(event * 50, limit_bytes=100)) == 50
    assert len(events_of((b": " + b"x" * 90 + b"\n") * 50 + event, limit_bytes=100)) == 1
    with pytest.raises(ProviderTooLarge):
        events_of(b"data: " + b"x" * 95 + b"\n\n", limit_bytes=100)


def test_many_small_pieces_cost_no_more_than_few_large_ones():
    """A megabyte that comes byte by byte is not copied at every byte."""
    decoder = SseDecoder(limit_bytes=1 << 21)
    text = b"x" * (1 << 18)
    for at in range(0, len(text), 4):
        list(decoder.feed(text[at : at + 4]))
    assert list(decoder.feed(b"\n\ndata: a\n\n")) == [SseEvent("message", "a")]
