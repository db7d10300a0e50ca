"""How answers are written in HTTP/1.1."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from linearized.server.http1_answers import Answer, Dates, Headers, refusal

DATE = b"Thu, 26 Nov 2026 10:00:00 GMT"


def answer(
    status: int = 200,
    headers: Headers = (),
    *,
    for_head: bool = False,
    chunks: bool = True,
    keeps_open: bool = True,
) -> Answer:
    return Answer(status, headers, for_head=for_head, chunks=chunks, keeps_open=keeps_open)


def written(made: Answer, *pieces: bytes, whole: bool = True) -> bytes:
    head = made.head(DATE, pieces[0] if whole else None)
    last = len(pieces) - 1
    return head + b"".join(made.piece(piece, more=index < last) for index, piece in enumerate(pieces))


def test_an_answer_that_is_whole_says_how_long_it_is() -> None:
    assert written(answer(headers=[(b"content-type", b"text/plain")]), b"abc") == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ndate: " + DATE + b"\r\ncontent-length: 3\r\n\r\nabc"
    )


def test_a_length_that_is_given_is_not_given_twice() -> None:
    assert written(answer(headers=[(b"content-length", b"3")]), b"abc").count(b"content-length") == 1


def test_an_answer_without_a_known_end_goes_in_chunks() -> None:
    made = answer()
    head, _, body = written(made, b"abc", b"", b"0123456789abcdef", b"", whole=False).partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert b"content-length" not in head
    assert body == b"3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"
    assert made.keeps_open


def test_where_nobody_knows_chunks_it_ends_with_the_connection() -> None:
    made = answer(chunks=False)
    head, _, body = written(made, b"abc", b"def", whole=False).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert (body, made.keeps_open) == (b"abcdef", False)


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_have_no_body(status: int) -> None:
    sent = written(answer(status), b"abc")
    assert sent.endswith(b"\r\n\r\n")
    assert b"content-length" not in sent
    assert b"transfer-encoding" not in written(answer(status), b"abc", whole=False)


def test_the_answer_to_a_head_has_the_length_of_what_a_get_would_bring() -> None:
    sent = written(answer(headers=[(b"content-length", b"3")], for_head=True), b"abc")
    assert sent.endswith(b"content-length: 3\r\ndate: " + DATE + b"\r\n\r\n")
    assert b"transfer-encoding" not in written(answer(for_head=True), b"", whole=False)


@pytest.mark.parametrize("bad", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b"])
def test_a_header_cannot_end_its_line(bad: bytes) -> None:
    with pytest.raises(ValueError, match="ends of lines"):
        answer(headers=[(b"x", bad)]).head(DATE, b"")
    with pytest.raises(ValueError, match="ends of lines"):
        answer(headers=[(bad, b"x")]).head(DATE, b"")


def test_a_status_without_a_name_is_one_too() -> None:
    assert written(answer(299), b"").startswith(b"HTTP/1.1 299 \r\n")


def test_what_is_no_request_is_answered_and_the_connection_ends() -> None:
    sent = refusal(HTTPStatus.BAD_REQUEST, DATE)
    assert sent.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"connection: close\r\n" in sent
    assert b"content-length: 0\r\n" in sent


def test_the_date_is_that_of_the_second() -> None:
    dates = Dates()
    assert dates.at(1_795_687_200.0) == dates.at(1_795_687_200.9) == b"Thu, 26 Nov 2026 10:00:00 GMT"
    assert dates.at(1_795_687_201.0) == b"Thu, 26 Nov 2026 10:00:01 GMT"
