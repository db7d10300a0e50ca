"""The ASGI application, driven in memory."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import structlog
import trio
import trio.testing

from linearized.exceptions import AuthorizationError, IdentifierError, SignatureError
from linearized.room.submissions import Reason, Rejected
from linearized.server import errors, telemetry
from linearized.server.app import CORS_HEADERS, build_app
from linearized.server.deciding import Overloaded
from linearized.server.exchange import OutboundError
from linearized.server.http import HttpError, Receive, Request, Response, Route, json_response
from linearized.server.providers.client import ProviderError

from .test_http import receiver

SECRET = "the text of a message"


async def ok(request: Request) -> Response:
    return json_response({"path": request.params})


async def reads(request: Request) -> Response:
    return json_response(await request.json())


def raising(error: Exception) -> Route:
    async def handler(_request: Request) -> Response:
        raise error

    return Route("GET", "/fails", handler)


async def call(
    routes: list[Route],
    method: str = "GET",
    path: str = "/fails",
    *,
    receive: Receive | None = None,
    **scope: Any,
) -> tuple[int, dict[str, str], bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    await build_app(routes)(
        {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": []} | scope,
        receive or receiver(),
        send,
    )
    start, body = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, body["body"]


@pytest.fixture
def log() -> Iterator[io.BytesIO]:
    stream = io.BytesIO()
    telemetry.configure(logging.INFO, stream)
    yield stream
    structlog.reset_defaults()


def lines(stream: io.BytesIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


async def test_a_handler_answers_and_the_log_has_the_pattern_not_the_path(log: io.BytesIO) -> None:
    status, headers, body = await call([Route("GET", "/a/{b}", ok)], path="/a/secret%20name")
    assert (status, json.loads(body)) == (200, {"path": {"b": "secret name"}})
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(body))
    (line,) = lines(log)
    assert (line["event"], line["method"], line["route"], line["status"]) == ("request", "GET", "/a/{b}", 200)
    assert line["bytes"] == len(body)
    assert line["ms"] >= 0
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")
    assert b"secret" not in log.getvalue()


async def test_head_is_get_without_the_body(log: io.BytesIO) -> None:
    status, headers, body = await call([Route("GET", "/a", ok)], "HEAD", "/a")
    assert (status, body) == (200, b"")
    assert headers["content-length"] == str(len(b'{"path":{}}'))


async def test_an_unknown_path_is_not_logged(log: io.BytesIO) -> None:
    status, _, body = await call([], path="/secret")
    assert (status, json.loads(body)["errcode"]) == (404, "M_UNRECOGNIZED")
    assert lines(log)[0]["route"] == "-"
    assert b"secret" not in log.getvalue()


async def test_a_wrong_method_is_told_the_right_ones(log: io.BytesIO) -> None:
    status, headers, body = await call([Route("GET", "/a", ok), Route("PUT", "/a", ok)], "POST", "/a")
    assert (status, json.loads(body)["errcode"], headers["allow"]) == (405, "M_UNRECOGNIZED", "GET, PUT")


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (HttpError(403, "M_FORBIDDEN", "no"), 403, {"errcode": "M_FORBIDDEN", "error": "no"}),
        (
            HttpError(429, "M_LIMIT_EXCEEDED", "slow", retry_after_ms=5),
            429,
            {"errcode": "M_LIMIT_EXCEEDED", "error": "slow", "retry_after_ms": 5},
        ),
        (
            Rejected(Reason.WRONG_EPOCH, "late", current_epoch=7),
            409,
            {"errcode": "M_WRONG_EPOCH", "error": "late", "current_epoch": 7},
        ),
        (
            Rejected(Reason.WRONG_HUB, "not here"),
            400,
            {"errcode": "M_WRONG_SERVER", "error": "not here"},
        ),
        (AuthorizationError("5.1", "no"), 403, {"errcode": "M_FORBIDDEN", "error": "rule 5.1: no"}),
        (SignatureError("bad"), 403, {"errcode": "M_FORBIDDEN", "error": "bad"}),
        (IdentifierError("bad"), 400, {"errcode": "M_INVALID_PARAM", "error": "bad"}),
        (
            ExceptionGroup("", [ExceptionGroup("", [HttpError(403, "M_FORBIDDEN", "no")])]),
            403,
            {"errcode": "M_FORBIDDEN", "error": "no"},
        ),
        (ExceptionGroup("", [IdentifierError("x")]), 400, {"errcode": "M_INVALID_PARAM", "error": "x"}),
        (
            OutboundError("b.example answered 403: no", status=403, errcode="M_FORBIDDEN"),
            403,
            {"errcode": "M_FORBIDDEN", "error": "b.example answered 403: no"},
        ),
        (
            OutboundError("refused", status=401, errcode="M_FORBIDDEN"),
            502,
            {"errcode": "M_UNKNOWN", "error": "refused"},
        ),
        (OutboundError("refused", status=404), 502, {"errcode": "M_UNKNOWN", "error": "refused"}),
        (OutboundError("down"), 502, {"errcode": "M_UNKNOWN", "error": "down"}),
        (ProviderError("down"), 502, {"errcode": "M_UNKNOWN", "error": "down"}),
        (Overloaded("busy"), 429, {"errcode": "M_LIMIT_EXCEEDED", "error": "busy", "retry_after_ms": 1000}),
        (
            trio.TooSlowError(),
            504,
            {"errcode": "M_UNKNOWN", "error": "It took too long; whether it was done will show"},
        ),
    ],
)
async def test_an_error_becomes_its_matrix_error_object(
    log: io.BytesIO, error: Exception, status: int, expected: dict[str, object]
) -> None:
    got, headers, body = await call([raising(error)])
    assert (got, json.loads(body)) == (status, expected)
    assert headers["content-type"] == "application/json"


def test_every_reason_has_a_row() -> None:
    assert set(errors.REASONS) == set(Reason)


@pytest.mark.parametrize(
    "error",
    [ValueError(SECRET), ExceptionGroup(SECRET, [ValueError(SECRET), HttpError(403, "M_FORBIDDEN", SECRET)])],
)
async def test_an_unexpected_error_is_logged_by_place_and_hidden(log: io.BytesIO, error: Exception) -> None:
    status, _, body = await call([raising(error)])
    assert (status, json.loads(body)) == (500, {"errcode": "M_UNKNOWN", "error": "Something went wrong"})
    failure, line = lines(log)
    assert (failure["event"], failure["level"]) == ("request_failed", "error")
    assert failure["exception"] == type(error).__name__
    assert "handler" in str(failure)
    assert line["status"] == 500
    assert SECRET.encode() not in log.getvalue()


async def test_a_header_that_would_end_early_is_not_sent(log: io.BytesIO) -> None:
    async def split(_request: Request) -> Response:
        return Response(headers=(("x-name", "a\r\nset-cookie: b"),))

    status, headers, _ = await call([Route("GET", "/fails", split)])
    assert status == 500
    assert "x-name" not in headers


@pytest.mark.parametrize(
    "path", ["/_matrix/client/v3/sync", "/_matrix/media/v3/upload", "/.well-known/matrix/client"]
)
async def test_browsers_may_use_the_client_api(log: io.BytesIO, path: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        status, headers, _ = await call([Route("GET", path, ok)], method, path)
        assert set(CORS_HEADERS) <= set(headers.items())
        assert status == {"GET": 200, "POST": 405, "OPTIONS": 200}[method]


async def test_options_never_reaches_a_handler(log: io.BytesIO) -> None:
    path = "/_matrix/client/v3/login"
    status, _, _ = await call([Route("GET", path, raising(ValueError()).handler)], "OPTIONS", path)
    assert status == 200


async def test_browsers_may_not_use_the_server_faces(log: io.BytesIO) -> None:
    path = "/_matrix/federation/v1/version"
    _, headers, _ = await call([Route("GET", path, ok)], "GET", path)
    assert "access-control-allow-origin" not in headers
    status, headers, _ = await call([Route("GET", path, ok)], "OPTIONS", path)
    assert status == 405
    assert "access-control-allow-origin" not in headers


async def test_a_body_nobody_reads_is_drained_before_the_answer(log: io.BytesIO) -> None:
    receive = receiver(b"x" * 100)
    await call([Route("PUT", "/a", ok)], "PUT", "/a", receive=receive)
    with trio.move_on_after(0) as scope:
        await receive()
    assert scope.cancelled_caught, "the whole body was taken"


async def test_a_connection_with_an_endless_body_is_dropped_after_the_answer(
    log: io.BytesIO, autojump_clock: trio.testing.MockClock
) -> None:
    aborted = []
    routes = [Route("PUT", "/a", reads)]
    status, _, _ = await call(
        routes,
        "PUT",
        "/a",
        receive=receiver(b"x" * 2**20, b"y" * 2**22, then="silence"),
        abort=lambda: aborted.append(True),
    )
    assert status == 413
    assert aborted == [True]


async def test_a_websocket_is_turned_away(log: io.BytesIO) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    app = build_app([])
    await app({"type": "websocket"}, receiver(), send)
    await app({"type": "lifespan"}, receiver(), send)
    assert sent == [{"type": "websocket.close", "code": 1000}]
