from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable

import httpx
import pytest
import trio
from trio.testing import MockClock

from linearized.client import (
    ApiError,
    ImportEvent,
    MalformedAnswer,
    ProviderApi,
    ServerUnreachable,
    WrongEpochError,
)
from linearized.client.transport import MAX_ATTEMPTS, MAX_RETRY_AFTER, REQUEST_DEADLINE, Transport

Answers = list[httpx.Response | Exception]


class Server:
    """Answers requests from a list, the last answer again and again."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers: Answers = list(answers)
        self.requests: list[httpx.Request] = []

    def api(self, **more: str | None) -> ProviderApi:
        return ProviderApi(
            "https://a.example/",
            token=more.get("token", "secret"),
            user_id=more.get("user_id"),
            device_id=more.get("device_id"),
            http=httpx.AsyncClient(transport=httpx.MockTransport(self._answer)),
            clock=lambda: 1,
            ids=lambda size: f"id{size}",
        )

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def error(status: int, errcode: str = "M_X", **more: object) -> httpx.Response:
    return httpx.Response(status, json={"errcode": errcode, "error": "text", **more})


SENT = httpx.Response(200, json={"event_id": "$1"})


async def send(api: ProviderApi) -> str:
    return await api.send_event("!r:x", "m.x", {}, txn_id="t")


async def test_what_may_be_repeated_is_repeated_until_it_works(autojump_clock: MockClock) -> None:
    server = Server(httpx.ConnectError("down"), error(503), SENT)
    assert await send(server.api()) == "$1"
    assert len({str(request.url) for request in server.requests}) == 1
    assert trio.current_time() > 1


async def test_patience_has_an_end(autojump_clock: MockClock) -> None:
    server = Server(httpx.ConnectError("down"))
    with pytest.raises(ServerUnreachable):
        await send(server.api())
    assert len(server.requests) == MAX_ATTEMPTS


@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.login("a", "b"),
        lambda api: api.create_room(),
        lambda api: api.key_material("!r:x", b"x"),
        lambda api: api.invite("!r:x", "@a:x"),
    ],
)
async def test_what_may_not_be_repeated_is_asked_once(
    call: Callable[[ProviderApi], Awaitable[object]], autojump_clock: MockClock
) -> None:
    server = Server(httpx.ReadError("cut"))
    with pytest.raises(ServerUnreachable):
        await call(server.api())
    assert len(server.requests) == 1


async def test_a_refusal_is_final_and_typed(autojump_clock: MockClock) -> None:
    server = Server(error(403, "M_FORBIDDEN"))
    with pytest.raises(ApiError) as caught:
        await send(server.api())
    assert (caught.value.status, caught.value.errcode, caught.value.error) == (403, "M_FORBIDDEN", "text")
    assert len(server.requests) == 1
    with pytest.raises(ApiError) as caught:
        await send(Server(httpx.Response(404, text="<html>")).api())
    assert caught.value.errcode == "M_UNKNOWN"


async def test_a_wrong_epoch_says_the_current_one(autojump_clock: MockClock) -> None:
    server = Server(error(409, "M_WRONG_EPOCH", current_epoch=7))
    with pytest.raises(WrongEpochError) as caught:
        await send(server.api())
    assert caught.value.current_epoch == 7


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (error(429, "M_LIMIT_EXCEEDED", retry_after_ms=3000), 3),
        (httpx.Response(429, headers={"Retry-After": "4"}), 4),
    ],
)
async def test_a_server_is_given_the_time_it_asks_for(
    answer: httpx.Response, seconds: float, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    assert await send(Server(answer, SENT).api()) == "$1"
    assert trio.current_time() - start == pytest.approx(seconds)


async def test_a_server_that_wants_too_much_time_is_taken_at_its_word(autojump_clock: MockClock) -> None:
    server = Server(error(429, retry_after_ms=int(MAX_RETRY_AFTER * 1000) + 1))
    with pytest.raises(ApiError):
        await send(server.api())
    assert len(server.requests) == 1


async def test_a_server_that_never_answers_is_given_up(autojump_clock: MockClock) -> None:
    async def never(_: httpx.Request) -> httpx.Response:
        await trio.sleep_forever()
        raise AssertionError

    api = ProviderApi(
        "https://a.example",
        token=None,
        http=httpx.AsyncClient(transport=httpx.MockTransport(never)),
        clock=lambda: 1,
        ids=str,
    )
    start = trio.current_time()
    with pytest.raises(ServerUnreachable, match="TooSlow"):
        await api.create_room()
    assert trio.current_time() - start == pytest.approx(REQUEST_DEADLINE)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="no"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"event_id": 1}),
    ],
)
async def test_an_answer_that_breaks_the_api_is_refused(answer: httpx.Response) -> None:
    with pytest.raises(MalformedAnswer):
        await send(Server(answer).api())


async def test_an_answer_may_only_be_so_large() -> None:
    server = Server(httpx.Response(200, content=b"x" * 11))
    http = httpx.AsyncClient(transport=httpx.MockTransport(server._answer))
    transport = Transport(base_url="https://a.example", token=None, http=http, query={})
    answer = await transport.request("GET", "/", idempotent=True, limit=11)
    assert answer.body == b"x" * 11
    with pytest.raises(MalformedAnswer, match="exceeds"):
        await transport.request("GET", "/", idempotent=True, limit=10)


async def test_a_request_carries_the_token_and_whom_it_acts_for() -> None:
    server = Server(SENT)
    api = server.api().as_user("@alice:x", "BRIDGE")
    await api.send_event("!r:x/y", "m.x", {"a": 1}, txn_id="t/1", ts=5)
    (request,) = server.requests
    assert request.headers["authorization"] == "Bearer secret"
    assert request.url.raw_path.startswith(b"/_matrix/client/v3/rooms/%21r%3Ax%2Fy/send/m.x/t%2F1?")
    assert dict(request.url.params) == {"user_id": "@alice:x", "device_id": "BRIDGE", "ts": "5"}
    assert "secret" not in repr(api)


class Breaking(httpx.AsyncBaseTransport):
    """A connection that breaks when a piece of the body has been sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for piece in request.stream:
            self.sent.append(piece)
            raise httpx.WriteError("broken")
        raise AssertionError("there was no body")


async def test_a_connection_that_breaks_within_a_body_leaves_nothing_behind() -> None:
    breaking = Breaking()
    async with httpx.AsyncClient(transport=breaking) as http:
        transport = Transport(base_url="https://a.example", token=None, http=http, query={})
        with pytest.raises(ServerUnreachable, match="WriteError"):
            await transport.json("PUT", "/x", body={"a": 1}, idempotent=False)
    assert breaking.sent == [b'{"a":1}']
    gc.collect()  # what was left unfinished would be warned of, and warnings are errors here


async def test_answers_become_values() -> None:
    def answered(body: object) -> ProviderApi:
        return Server(httpx.Response(200, json=body)).api()

    login = {"user_id": "@a:x", "device_id": "D", "access_token": "t"}
    assert (await answered(login).login("a", "b", device_id="D")).access_token == "t"
    assert (await answered(login).login_application_service("@a:x", device_id="D")).device_id == "D"
    assert await answered({"joined_rooms": ["!r:x", 1]}).joined_rooms() == ["!r:x"]
    assert await answered({"joined": {"@a:x": {}}}).joined_members("!r:x") == {"@a:x": {}}
    assert await answered([{"type": "x"}]).state("!r:x") == [{"type": "x"}]
    page = await answered({"chunk": [{"type": "x"}], "end": "e"}).messages("!r:x", start="s")
    assert (page.chunk, page.end) == ([{"type": "x"}], "e")
    log = await answered({"pdus": [{}], "first_seq": 3, "head_seq": 9}).log("!r:x", after=2)
    assert (log.first_seq, log.head_seq) == (3, 9)
    counts = await answered({"one_time_key_counts": {"mls": 2}}).keys_upload(one_time={"k": b"x"})
    assert counts == {"mls": 2}
    assert await answered({"response": "AQI", "event_id": "$1"}).update("!r:x", b"x") == (b"\1\2", "$1")
    assert await answered({"content_uri": "mxc://a/b"}).upload_media(b"x", content_type="a/b") == "mxc://a/b"
    event = ImportEvent(sender="@a:x", type="t", content={}, origin_server_ts=1, source_event_id="$s")
    result = await answered({"event_ids": {"$s": "$1"}, "failed": {}}).import_events("!r:x", [event])
    assert result.event_ids == {"$s": "$1"}
    assert await Server(httpx.Response(200, content=b"\0\1")).api().download_media("a", "b") == b"\0\1"
    with pytest.raises(MalformedAnswer):
        await answered({"response": "*"}).group_info("!r:x", b"x")
    with pytest.raises(MalformedAnswer):
        await answered({"chunk": 1}).messages("!r:x")
