"""Requests, bodies and the router, without sockets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import trio
import trio.testing

from linearized.server import http
from linearized.server.http import (
    HttpError,
    Receive,
    Request,
    Response,
    Route,
    Router,
    build_request,
    json_response,
)


async def nothing(_request: Request) -> Response:
    return Response()


def receiver(*chunks: bytes, then: str = "end") -> Receive:
    """A client that sends ``chunks`` and then ends its body, goes away, or falls silent."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": c, "more_body": True} for c in chunks]
    if then == "end":
        messages.append({"type": "http.request", "body": b"", "more_body": False})
    elif then == "gone":
        messages.append({"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        if not messages:
            await trio.sleep_forever()
        return messages.pop(0)

    return receive


def request(
    receive: Receive | None = None,
    *,
    target: bytes = b"/",
    query: bytes = b"",
    headers: Iterable[tuple[bytes, bytes]] = (),
    **scope: Any,
) -> Request:
    return build_request(
        {
            "type": "http",
            "method": "PUT",
            "path": "/",
            "raw_path": target,
            "query_string": query,
            "headers": list(headers),
            "client": ("192.0.2.1", 4),
            **scope,
        },
        receive or receiver(),
        {},
    )


async def test_a_body_comes_in_chunks_and_is_remembered() -> None:
    got = request(receiver(b"ab", b"cd"))
    assert await got.body() == b"abcd"
    assert await got.body() == b"abcd"
    assert await got.drain()


async def test_a_body_that_came_with_the_head_is_like_any_other() -> None:
    got = request(receiver(then="silence"), body_now=lambda: b"abcd")
    assert await got.body() == b"abcd"
    assert await got.drain()
    with pytest.raises(HttpError, match="exceeds 3 bytes"):
        await got.body(limit=3)


async def test_a_body_that_came_with_the_head_is_passed_on_within_bounds() -> None:
    passed: list[bytes] = []

    async def take(piece: bytes) -> None:
        passed.append(piece)

    await request(receiver(then="silence"), body_now=lambda: b"abcd").pass_on(take, limit=4)
    with pytest.raises(HttpError, match="exceeds 3 bytes"):
        await request(receiver(then="silence"), body_now=lambda: b"abcd").pass_on(take, limit=3)
    assert passed == [b"abcd"]


async def test_a_body_past_the_limit_is_refused_as_soon_as_it_is_past_it() -> None:
    got = request(receiver(b"abc", b"def", then="silence"))
    with pytest.raises(HttpError, match="exceeds 5 bytes") as caught:
        await got.body(limit=5)
    assert (caught.value.status, caught.value.errcode) == (413, "M_TOO_LARGE")


async def test_a_declared_length_past_the_limit_is_refused_unread() -> None:
    got = request(receiver(then="silence"), headers=[(b"content-length", b"6")])
    with pytest.raises(HttpError, match="exceeds 5 bytes"):
        await got.body(limit=5)


async def test_a_remembered_body_is_still_held_to_a_smaller_limit() -> None:
    got = request(receiver(b"abcdef"))
    await got.body(limit=6)
    with pytest.raises(HttpError, match="exceeds 5 bytes"):
        await got.body(limit=5)


async def test_a_client_that_goes_away_has_sent_no_body() -> None:
    got = request(receiver(b"ab", then="gone"))
    with pytest.raises(HttpError, match="went away"):
        await got.body()
    assert await got.drain()


async def test_a_body_that_stops_arriving_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    got = request(receiver(b"ab", then="silence"))
    with pytest.raises(HttpError) as caught:
        await got.body()
    assert caught.value.status == 408
    assert trio.current_time() == pytest.approx(http.BODY_SECONDS)


async def test_an_unwanted_body_is_drained_within_bounds(autojump_clock: trio.testing.MockClock) -> None:
    assert await request(receiver(b"x" * 100, b"y" * 100)).drain()
    assert await request(receiver(b"x", then="gone")).drain()
    assert not await request(receiver(b"x", then="silence")).drain()
    assert not await request(receiver(*[b"x" * 2**20] * 9)).drain()


async def test_json_is_an_object_and_an_empty_body_is_an_empty_one() -> None:
    assert await request(receiver(b'{"a"', b": 1}")).json() == {"a": 1}
    assert await request(receiver()).json() == {}


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        (b"{", "M_NOT_JSON"),
        (b"\xff", "M_NOT_JSON"),
        (b"[]", "M_BAD_JSON"),
        (b"1", "M_BAD_JSON"),
        (b'{"a": 1.5}', "M_BAD_JSON"),
        (b'{"a": 9007199254740992}', "M_BAD_JSON"),
    ],
)
async def test_what_is_no_object_of_interoperable_values_is_refused(body: bytes, errcode: str) -> None:
    with pytest.raises(HttpError) as caught:
        await request(receiver(body)).json()
    assert (caught.value.status, caught.value.errcode) == (400, errcode)


def test_the_target_stays_as_sent_and_headers_are_joined() -> None:
    got = request(
        target=b"/a%2Fb",
        query=b"q=%41&q=2&e=",
        headers=[
            (b"X-A", b"1"),
            (b"x-a", b"2"),
            (b"Authorization", b"X-Matrix a"),
            (b"authorization", b"X-Matrix b"),
        ],
        peer_domains=("b.example",),
    )
    assert got.raw_target == "/a%2Fb?q=%41&q=2&e="
    assert got.query == {"q": ["A", "2"], "e": [""]}
    assert got.query_one("q") == "A"
    assert got.query_one("e") == ""
    assert got.query_one("none") is None
    assert got.headers["x-a"] == "1, 2"
    assert got.authorization == ("X-Matrix a", "X-Matrix b")
    assert got.peer_domains == ("b.example",)
    assert got.client_address == "192.0.2.1"


def test_a_scope_without_raw_path_or_client_still_makes_a_request() -> None:
    got = request(raw_path=None, client=None)
    assert got.raw_target == "/"
    assert got.client_address == "unknown"


def test_too_many_query_parameters_are_refused() -> None:
    assert request(query=b"&".join([b"a=1"] * http.MAX_QUERY_FIELDS)).query
    with pytest.raises(HttpError, match="Too many query parameters"):
        request(query=b"&".join([b"a=1"] * (http.MAX_QUERY_FIELDS + 1)))


ROUTER = Router(
    [
        Route("GET", "/rooms/{room}/state", nothing),
        Route("GET", "/rooms/{room}/state/{type}", nothing),
        Route("PUT", "/rooms/{target}/state/{kind}", nothing),
        Route("GET", "/rooms/known/other", nothing),
        Route("POST", "/rooms", nothing),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "pattern", "params"),
    [
        ("GET", "/rooms/!a%3Ab/state", "/rooms/{room}/state", {"room": "!a:b"}),
        ("GET", "/rooms/x%2Fy/state", "/rooms/{room}/state", {"room": "x/y"}),
        ("GET", "/rooms/x/state/t", "/rooms/{room}/state/{type}", {"room": "x", "type": "t"}),
        ("PUT", "/rooms/x/state/t", "/rooms/{target}/state/{kind}", {"target": "x", "kind": "t"}),
        ("GET", "/rooms/known/other", "/rooms/known/other", {}),
        ("GET", "/rooms/known/state", "/rooms/{room}/state", {"room": "known"}),
    ],
)
def test_a_path_finds_its_route(method: str, path: str, pattern: str, params: dict[str, str]) -> None:
    route, found = ROUTER.match(method, path)
    assert (route.method, route.pattern, found) == (method, pattern, params)
    assert ROUTER.resolve(method, path) == (nothing, params)


@pytest.mark.parametrize(
    ("method", "path", "status", "errcode"),
    [
        ("GET", "/", 404, "M_UNRECOGNIZED"),
        ("GET", "", 404, "M_UNRECOGNIZED"),
        ("POST", "/rooms/", 404, "M_UNRECOGNIZED"),
        ("POST", "//rooms", 404, "M_UNRECOGNIZED"),
        ("GET", "/rooms//state", 404, "M_UNRECOGNIZED"),
        ("GET", "/rooms/x/y/z", 404, "M_UNRECOGNIZED"),
        ("GET", "/rooms/x", 404, "M_UNRECOGNIZED"),
        ("GET", "/rooms", 405, "M_UNRECOGNIZED"),
        ("DELETE", "/rooms/x/state", 405, "M_UNRECOGNIZED"),
        ("GET", "/rooms/%FF/state", 400, "M_INVALID_PARAM"),
    ],
)
def test_an_unknown_path_or_method_is_refused(method: str, path: str, status: int, errcode: str) -> None:
    with pytest.raises(HttpError) as caught:
        ROUTER.match(method, path)
    assert (caught.value.status, caught.value.errcode) == (status, errcode)


def test_a_path_knows_its_methods() -> None:
    assert ROUTER.methods("/rooms/x/state/t") == ("GET", "PUT")
    assert ROUTER.methods("/nowhere") == ()


def test_two_handlers_for_one_method_and_path_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="two handlers for GET"):
        Router([Route("GET", "/a/{b}", nothing), Route("GET", "/a/{c}", nothing)])


def test_a_json_response_says_so() -> None:
    answer = json_response({"a": 1}, 201)
    assert (answer.status, answer.body, answer.content_type) == (201, b'{"a":1}', "application/json")
