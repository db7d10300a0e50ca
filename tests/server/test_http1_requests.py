"""Which bytes on an HTTP/1.1 connection are requests, and which are not."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.server.http1_requests import FRAME_BYTES, MAX_HEAD_BYTES, Incoming, Requests

GET = b"GET /a?b=%20 HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(*pieces: bytes) -> tuple[list[Incoming], HTTPStatus | None]:
    requests = Requests()
    for piece in pieces:
        requests.feed(piece)
    found = []
    while (request := requests.next()) is not None:
        found.append(request)
    return found, requests.error


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_requests_are_found_however_they_are_cut(size: int) -> None:
    sent = (
        GET
        + b"PUT /p HTTP/1.1\r\nHOST: b\r\nX-Two: 1\r\nx-two: 2\r\nContent-Length: 3\r\n\r\nabc"
        + CHUNKED
        + b"2;x=y\r\nde\r\n1\r\nf\r\n0\r\nX-After: 1\r\n\r\n"
        + b"HEAD / HTTP/1.0\r\n\r\n"
    )
    (get, put, chunked, head), error = read(*(sent[at : at + size] for at in range(0, len(sent), size)))
    assert error is None
    assert (get.method, get.target, get.version, get.headers) == (
        "GET",
        b"/a?b=%20",
        "1.1",
        [(b"host", b"a")],
    )
    assert put.headers == [(b"host", b"b"), (b"x-two", b"1"), (b"x-two", b"2"), (b"content-length", b"3")]
    assert (put.take(), put.take()) == (b"abc", b"")
    assert chunked.take() == b"def"
    assert (b"x-after", b"1") not in chunked.headers
    assert all(request.complete for request in (get, put, chunked, head))
    assert [request.keeps_open for request in (get, put, chunked, head)] == [True, True, True, False]


def test_a_request_is_there_before_its_body_is() -> None:
    requests = Requests()
    requests.feed(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-Continue\r\n\r\nab")
    request = requests.next()
    assert request is not None
    assert (request.take(), request.complete, request.wants_continue) == (b"ab", False, True)
    requests.feed(b"c")
    requests.feed(b"d")
    assert (request.take(), request.complete) == (b"cd", True)
    assert requests.next() is None


@pytest.mark.parametrize("expect", [b"", b"Expect: 200-ok\r\n"])
def test_who_does_not_ask_is_not_told_to_go_on(expect: bytes) -> None:
    (request,), _ = read(b"PUT / HTTP/1.1\r\nHost: a\r\n" + expect + b"Content-Length: 1\r\n\r\n")
    assert not request.wants_continue


def test_a_client_may_end_the_connection_with_its_request() -> None:
    (request,), _ = read(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert not request.keeps_open


@pytest.mark.parametrize("pieces", [1, 2])
def test_an_upgrade_is_not_made_and_costs_no_request_its_body(pieces: int) -> None:
    asked = (
        b"PUT /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABk\r\nContent-Length: 3\r\n\r\n"
    )
    found, error = read(asked + b"abc" + GET) if pieces == 1 else read(asked, b"abc" + GET)
    assert error is None
    assert [request.target for request in found] == [b"/x", b"/a?b=%20"]
    assert found[0].take() == b"abc"
    assert not {b"upgrade", b"http2-settings"} & {name for name, _ in found[0].headers}


BAD = HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"\x16\x03\x01\x02\x00", HTTPStatus.NOT_IMPLEMENTED),  # TLS, to the plain port
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\nHost: a\n\n", BAD),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", BAD),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", BAD),
        (CHUNKED[:-2] + b"Content-Length: 3\r\n\r\n", BAD),
        (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", BAD),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED),
        (b"FROB / HTTP/1.1\r\nHost: a\r\n\r\n", HTTPStatus.NOT_IMPLEMENTED),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", HTTPStatus.NOT_IMPLEMENTED),
        (b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", BAD),
    ],
)
def test_what_is_no_request_is_refused_and_what_came_before_it_is_not(sent: bytes, error: HTTPStatus) -> None:
    assert read(sent) == ([], error)
    found, seen = read(GET + sent)
    assert ([request.target for request in found], seen) == ([b"/a?b=%20"], error)


@pytest.mark.parametrize(
    "sent",
    [
        CHUNKED + b"zz\r\n",
        CHUNKED + b"1\r\nab\r\n",
        CHUNKED + b"1\nab\n",
        CHUNKED.replace(b"chunked", b"gzip"),
        CHUNKED.replace(b"chunked", b"chunked, gzip"),
    ],
)
def test_a_body_that_is_framed_wrongly_never_ends(sent: bytes) -> None:
    found, error = read(sent)
    assert error is BAD
    assert not any(request.complete for request in found)


@pytest.mark.parametrize(
    "endless",
    [
        b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * (MAX_HEAD_BYTES // 3),
        b"GET /" + b"x" * 2 * MAX_HEAD_BYTES,
        CHUNKED + b"0\r\n" + b"X: 1\r\n" * (MAX_HEAD_BYTES // 3),
        CHUNKED + b"1;" + b"x" * 2 * MAX_HEAD_BYTES,
    ],
)
def test_what_is_beside_a_body_is_bounded(endless: bytes) -> None:
    pieces = [endless[at : at + 10_000] for at in range(0, len(endless), 10_000)]
    assert read(*pieces)[1] is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


def test_a_large_body_and_small_chunks_are_no_offence() -> None:
    large = 10 * MAX_HEAD_BYTES
    head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % large
    (request,), error = read(head, *[b"x" * MAX_HEAD_BYTES] * 10)
    assert (error, len(request.take()), request.complete) == (None, large, True)
    chunks = 2 * MAX_HEAD_BYTES // FRAME_BYTES
    pieces = [b"1\r\nx\r\n" * 100] * (chunks // 100)
    (request,), error = read(CHUNKED, *pieces, b"0\r\n\r\n")
    assert (error, len(request.take()), request.complete) == (None, chunks // 100 * 100, True)


def test_after_an_error_nothing_is_a_request() -> None:
    requests = Requests()
    requests.feed(b"GET / HTTP/1.1\r\n\r\n")
    requests.feed(GET)
    assert (requests.next(), requests.error) == (None, BAD)


@given(st.lists(st.sampled_from([GET, CHUNKED, b"1\r\nx\r\n", b"0\r\n\r\n"]) | st.binary(), max_size=6))
def test_whatever_comes_is_requests_or_an_error(pieces: list[bytes]) -> None:
    for request in read(*pieces)[0]:
        assert request.method.isascii()
        assert request.version in {"1.0", "1.1"}
