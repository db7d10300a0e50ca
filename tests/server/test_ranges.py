"""Range and conditional requests (RFC 9110)."""

from __future__ import annotations

import hashlib

import pytest

from linearized.server.http import Request, Response
from linearized.server.ranges import respond

BODY = b"0123456789"
TAG = f'"{hashlib.sha256(BODY).hexdigest()}"'


async def receive() -> dict[str, object]:
    raise AssertionError("nothing is read")


def answer(method: str = "GET", **headers: str) -> Response:
    request = Request(
        method=method,
        raw_target="/",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        params={},
        query={},
        client_address="192.0.2.1",
        peer_domains=(),
        authorization=(),
        _receive=receive,
    )
    return respond(request, BODY, content_type="text/plain", headers=(("x-kept", "1"),))


@pytest.mark.parametrize(
    ("asked", "body", "where"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=7-99", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-99", BODY, "bytes 0-9/10"),
    ],
)
def test_a_part_is_sent_and_says_where_it_lies(asked: str, body: bytes, where: str) -> None:
    response = answer(range=asked)
    assert (response.status, response.body) == (206, body)
    assert dict(response.headers) == {
        "x-kept": "1",
        "etag": TAG,
        "accept-ranges": "bytes",
        "content-range": where,
    }


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-12", "bytes=-0"])
def test_a_range_outside_of_it_cannot_be_satisfied(asked: str) -> None:
    response = answer(range=asked)
    assert (response.status, response.body) == (416, b"")
    assert dict(response.headers)["content-range"] == "bytes */10"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-1,3-4",
        "items=0-1",
        "bytes=4-2",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "0-1",
        "bytes=0-" + "9" * 16,
    ],
)
def test_what_is_no_single_range_is_passed_over(asked: str) -> None:
    response = answer(range=asked)
    assert (response.status, response.body) in ((200, BODY), (206, BODY))


def test_a_part_of_another_version_is_not_asked_for() -> None:
    assert answer(range="bytes=0-1", if_range=TAG).status == 206
    assert answer(range="bytes=0-1", if_range='"other"').status == 200
    assert answer(range="bytes=0-1", if_range=f"W/{TAG}").status == 200


@pytest.mark.parametrize("unless", [TAG, f"W/{TAG}", f'"other", {TAG}', "*"])
def test_what_did_not_change_is_not_sent_again(unless: str) -> None:
    response = answer(if_none_match=unless)
    assert (response.status, response.body) == (304, b"")
    assert dict(response.headers)["etag"] == TAG


def test_what_changed_is_sent() -> None:
    assert answer(if_none_match='"other"').status == 200


def test_a_head_request_is_for_the_whole() -> None:
    assert answer("HEAD", range="bytes=0-1").status == 200
