"""One HTTP/1.1 connection as a client: what it writes, and which answers it takes."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from linearized.config import Address
from linearized.server.exchange import AnswerTooLarge, Outgoing, Reply
from linearized.server.http1_client import FRAME_BYTES, MAX_HEAD_BYTES, Http1Connection

LIMIT = 100
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def put(body: bytes = b"{}", headers: dict[str, str] | None = None) -> Outgoing:
    return Outgoing(
        method="PUT",
        address=Address(host="a.example", port=443),
        tls_name="a.example",
        target="/x?y=1",
        headers={"Host": "a.example", **(headers or {})},
        body=body,
    )


class Peer:
    """The other end: answers what it is told to, in pieces, and then closes if it is told to."""

    def __init__(self, *pieces: bytes, closes: bool = False) -> None:
        ours, self._theirs = trio.testing.memory_stream_pair()
        self.connection = Http1Connection(ours, has_come=lambda: False)
        self._pieces = pieces
        self._closes = closes
        self.got = b""

    async def exchange(self, request: Outgoing | None = None, limit: int = LIMIT) -> Reply:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._answer)
            return await self.connection.exchange(request or put(), limit)

    async def _answer(self) -> None:
        self.got = bytes(await self._theirs.receive_some(2**20))
        for piece in self._pieces:
            await self._theirs.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        if self._closes:
            await self._theirs.send_eof()


def unwrapped(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        (group,) = group.exceptions
    return group


async def failure(peer: Peer, limit: int = LIMIT) -> BaseException:
    with pytest.raises(BaseExceptionGroup) as caught:
        await peer.exchange(limit=limit)
    assert not peer.connection.reusable
    return unwrapped(caught.value)


async def test_a_request_is_one_write_of_head_and_body() -> None:
    peer = Peer(OK)
    reply = await peer.exchange(put(b'{"a":1}', {"Authorization": "X-Matrix origin=b"}))
    head, _, body = peer.got.partition(b"\r\n\r\n")
    assert body == b'{"a":1}'
    first, *fields = head.split(b"\r\n")
    assert first == b"PUT /x?y=1 HTTP/1.1"
    assert {b"Host: a.example", b"Authorization: X-Matrix origin=b", b"Content-Length: 7"} <= set(fields)
    assert b"Accept-Encoding: identity" in fields
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"{}", "2")
    assert peer.connection.reusable


async def test_a_large_body_follows_its_head() -> None:
    peer = Peer(OK)
    await peer.exchange(put(b"x" * (64 * 1024 + 1)))
    assert b"Content-Length: 65537" in peer.got


@pytest.mark.parametrize("name", ["Authorization", "Host"])
@pytest.mark.parametrize("bad", ["\r\n", "\n", "\0"])
async def test_a_header_cannot_end_its_line(name: str, bad: str) -> None:
    peer = Peer(OK)
    with pytest.raises(httpx.LocalProtocolError):
        await peer.connection.exchange(put(headers={name: f"a{bad}b"}), LIMIT)
    assert not peer.connection.reusable


ANSWERS: list[tuple[bytes, bytes, bool]] = [
    (OK, b"{}", True),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\nX-After: 1\r\n\r\n",
        b"{}",
        True,
    ),
    (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", b"{}", False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"{}", False),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    (b"HTTP/1.1 100 Continue\r\nX-A: 1\r\n\r\n" + OK, b"{}", True),
]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(("answer", "body", "reusable"), ANSWERS)
async def test_an_answer_is_read_however_it_is_cut(
    answer: bytes, body: bytes, reusable: bool, size: int
) -> None:
    peer = Peer(*(answer[at : at + size] for at in range(0, len(answer), size)))
    reply = await peer.exchange()
    assert reply.body == body
    assert "x-after" not in reply.headers
    assert "x-a" not in reply.headers
    assert peer.connection.reusable is reusable


async def test_after_an_answer_that_nobody_asked_for_there_is_no_other_request() -> None:
    peer = Peer(OK + b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n[]")
    reply = await peer.exchange()
    assert (reply.status, reply.body) == (200, b"{}")
    assert not peer.connection.reusable


async def test_an_answer_may_end_with_the_connection() -> None:
    peer = Peer(b"HTTP/1.1 200 OK\r\n\r\n{", b"}", closes=True)
    assert (await peer.exchange()).body == b"{}"
    assert not peer.connection.reusable


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    ],
)
async def test_an_answer_that_breaks_off_is_none(answer: bytes) -> None:
    assert isinstance(await failure(Peer(answer, closes=True)), httpx.RemoteProtocolError)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: 1\n\n",
    ],
)
async def test_what_is_not_http_is_no_answer(answer: bytes) -> None:
    assert isinstance(await failure(Peer(answer)), httpx.RemoteProtocolError)


def endless_head() -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * (MAX_HEAD_BYTES // 6)


def endless_trailer() -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: 1\r\n" * (MAX_HEAD_BYTES // 6)


def endless_interim() -> bytes:
    return b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD_BYTES // 25 + 1)


def endless_extension() -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * MAX_HEAD_BYTES


@pytest.mark.parametrize("endless", [endless_head, endless_trailer, endless_interim, endless_extension])
async def test_what_is_beside_the_body_is_bounded(endless: Callable[[], bytes]) -> None:
    sent = endless()
    half = len(sent) // 2
    assert "beside" in str(await failure(Peer(sent[:half], sent[half:])))


async def test_small_chunks_are_no_offence() -> None:
    chunks = 2 * MAX_HEAD_BYTES // FRAME_BYTES
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * chunks + b"0\r\n\r\n"
    assert len(answer) > MAX_HEAD_BYTES
    assert (await Peer(answer).exchange(limit=chunks)).body == b"x" * chunks


async def test_an_answer_with_more_than_the_limit_is_refused() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + b"x" * 101
    assert isinstance(await failure(Peer(answer)), AnswerTooLarge)


async def test_a_server_that_closes_before_it_has_read_all_is_heard() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    connection = Http1Connection(ours, has_come=lambda: False)
    await theirs.send_all(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    theirs.receive_stream.close()
    assert (await connection.exchange(put(), LIMIT)).status == 413


class Broken(trio.abc.Stream):
    """A connection that the other side has reset."""

    async def send_all(self, _data: bytes | bytearray | memoryview) -> None:
        raise trio.BrokenResourceError

    async def wait_send_all_might_not_block(self) -> None:
        raise trio.BrokenResourceError

    async def receive_some(self, _max_bytes: int | None = None) -> bytes:
        raise trio.BrokenResourceError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_connection_that_breaks_is_no_answer() -> None:
    connection = Http1Connection(Broken(), has_come=lambda: True)
    with pytest.raises(httpx.ReadError):
        await connection.exchange(put(), LIMIT)
    assert not connection.reusable


@given(st.lists(st.binary(min_size=1), max_size=4), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", OK[:-1]]))
def test_whatever_comes_is_an_answer_or_none(pieces: list[bytes], first: bytes) -> None:
    async def run() -> None:
        try:
            await Peer(first, *pieces, closes=True).exchange()
        except BaseExceptionGroup as group:
            assert isinstance(unwrapped(group), httpx.TransportError | AnswerTooLarge)  # noqa: PT017

    trio.run(run)
