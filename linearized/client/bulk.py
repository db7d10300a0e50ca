"""A room's whole history, fast: segments in parallel, checked as they come, then the newest entries.

What is fetched lies in a directory as it came: ``000000.jsonl.zst`` and so on, and ``tail.jsonl`` with what
no segment holds yet. A pull that was broken off goes on with what is there. Nothing in the directory is
believed: every pull checks the whole log again, from the first entry to the hub's signed checkpoint, which it
leaves in ``checkpoint``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
import trio

from linearized.client.api import ProviderApi
from linearized.client.errors import ClientError, UntrustedAnswer
from linearized.client.transport import JsonObject
from linearized.client.verify import LOG_PAGE, KeyLookup, LogBroken, LogReport, LogVerifier, check_signed
from linearized.client.verify import server_keys as own_keys
from linearized.exceptions import InvalidInput
from linearized.room.segments import SEGMENT, unpack

# Segments fetched at a time: the check of one takes longer than the way of another, so a few are enough.
PARALLEL: Final = 4
# Fetched segments that wait to be checked: a few megabytes.
AHEAD: Final = 8

TAIL: Final = "tail.jsonl"
CHECKPOINT: Final = "checkpoint"

Progress = Callable[[int, int], None]


class HistoryIncomplete(ClientError):  # noqa: N818 - says what the history is
    """The server does not show us the room from its beginning, so nothing can be checked to its end."""


class Keys:
    """Servers' keys, asked of the provider as the log needs them.

    What a provider says of other servers' keys is its word: give ``known`` keys that came another way to be
    independent of it. A key document must at least be signed with its own keys.

    Args:
        known: raw Ed25519 keys by server name and key ID.
    """

    def __init__(self, api: ProviderApi, known: dict[tuple[str, str], bytes] | None = None) -> None:
        self._api = api
        self._keys = dict(known or {})
        self._asked: set[str] = set()

    def __call__(self, server: str, key_id: str) -> bytes | None:
        """The key, from a worker thread; None if the provider does not know it."""
        if (server, key_id) not in self._keys and server not in self._asked:
            self._asked.add(server)
            trio.from_thread.run(self.learn, server)
        return self._keys.get((server, key_id))

    async def learn(self, server: str) -> None:
        """Ask for a server's keys; those we have stay."""
        for document in await self._api.keys_of(server):
            found = own_keys(document)
            self._keys = {key: value for key, value in found.items() if key[0] == server} | self._keys


@dataclass(frozen=True, slots=True)
class _Source:
    """Where segments come from, and where they go."""

    api: ProviderApi
    room_id: str
    directory: Path

    def path(self, number: int) -> trio.Path:
        return trio.Path(self.directory / f"{number:06}.jsonl.zst")

    async def fetch(self, numbers: Iterator[int], ready: list[trio.Event], ahead: trio.Semaphore) -> None:
        """Fetch the segments that are not there yet, one after another, as long as there are any."""
        while True:
            await ahead.acquire()
            number = next(numbers, None)
            if number is None:
                ahead.release()
                return
            path = self.path(number)
            if not await path.exists():
                partial = path.with_suffix(".part")
                await partial.write_bytes(await self.api.segment(self.room_id, number))
                await partial.replace(path)
            ready[number].set()


async def pull_history(
    api: ProviderApi,
    room_id: str,
    directory: Path,
    *,
    keys: KeyLookup,
    progress: Progress = lambda done, total: None,
) -> LogReport:
    """Fetch a room's whole log into ``directory``, and check it.

    Args:
        keys: called in a worker thread; see ``Keys``.
        progress: called with the entries checked so far and the log's length.

    Raises:
        LogBroken: an entry is not as it must be, or the hub signs another log.
        HistoryIncomplete: we are not shown all of it.
        UntrustedAnswer: a segment is no segment.
        ApiError, ServerUnreachable: the server does not tell.
    """
    source = _Source(api, room_id, directory)
    await trio.Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
    index = await api.segments(room_id)
    complete = index.head_seq // SEGMENT
    if complete and index.runs != ((0, complete - 1),):
        raise HistoryIncomplete("the server does not show this room from its beginning to its end")
    verifier = LogVerifier(keys)
    try:
        await _segments(source, complete, index.head_seq, verifier, progress)
    except ExceptionGroup as group:
        raise _first(group) from group
    await _tail(source, verifier, progress)
    signed = await _signed(api, verifier.report, keys)
    await trio.Path(directory / CHECKPOINT).write_text(signed, encoding="utf-8")
    return verifier.report


async def _segments(
    source: _Source, complete: int, head: int, verifier: LogVerifier, progress: Progress
) -> None:
    """Check segments in order while others are fetched."""
    async with trio.open_nursery() as nursery:
        ready = [trio.Event() for _ in range(complete)]
        ahead = trio.Semaphore(AHEAD)
        numbers = iter(range(complete))
        for _ in range(min(PARALLEL, complete)):
            nursery.start_soon(source.fetch, numbers, ready, ahead)
        for number in range(complete):
            await ready[number].wait()
            data = await source.path(number).read_bytes()
            await trio.to_thread.run_sync(_check, verifier, data, number)
            ahead.release()
            progress(verifier.report.entries, head)


def _first(error: Exception) -> Exception:
    """What a nursery's group began with; it wraps even a single error."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _check(verifier: LogVerifier, data: bytes, number: int) -> None:
    try:
        pdus = unpack(data)
    except InvalidInput as error:
        raise UntrustedAnswer(f"segment {number}: {error}") from error
    for pdu in pdus:
        if verifier.take(_parsed(pdu, verifier)).raw != pdu:
            raise LogBroken(verifier.report.entries, "it is not in the form it was signed in")


def _parsed(pdu: bytes, verifier: LogVerifier) -> JsonObject:
    try:
        value = orjson.loads(pdu)
    except orjson.JSONDecodeError as error:
        raise LogBroken(verifier.report.entries + 1, "it is not JSON") from error
    if not isinstance(value, dict):
        raise LogBroken(verifier.report.entries + 1, "it is no object")
    return value


async def _tail(source: _Source, verifier: LogVerifier, progress: Progress) -> None:
    """What came after the last complete segment."""
    lines: list[bytes] = []
    while True:
        done = verifier.report.entries
        page = await source.api.log(source.room_id, after=done, limit=LOG_PAGE)
        if done >= page.head_seq:
            break
        if not page.pdus or page.first_seq != done + 1:
            raise LogBroken(done + 1, "the server does not tell this entry")
        lines.extend(await trio.to_thread.run_sync(_take_all, verifier, page.pdus))
        progress(verifier.report.entries, page.head_seq)
    await trio.Path(source.directory / TAIL).write_bytes(b"".join(line + b"\n" for line in lines))


def _take_all(verifier: LogVerifier, pdus: list[JsonObject]) -> list[bytes]:
    return [verifier.take(pdu).raw for pdu in pdus]


async def _signed(api: ProviderApi, report: LogReport, keys: KeyLookup) -> str:
    """The hub's checkpoint of just this log; the keys may have to be asked for, so from a thread."""

    def looked_up(server: str, key_id: str) -> bytes | None:
        return found.get((server, key_id))

    answer = await api.checkpoint(report.room_id, size=report.entries)
    key = await trio.to_thread.run_sync(keys, report.hub, answer.key_id)
    found = {(report.hub, answer.key_id): key} if key is not None else {}
    return (await check_signed(api, report, looked_up)).note


def entries(directory: Path) -> Iterator[bytes]:
    """The canonical PDUs that a pull left, oldest first.

    Raises:
        InvalidInput: a file there is no segment.
    """
    for path in sorted(directory.glob("*.jsonl.zst")):
        yield from unpack(path.read_bytes())
    yield from (directory / TAIL).read_bytes().splitlines()


def export_jsonl(directory: Path, target: Path) -> int:
    """Write a pulled log as JSON Lines, one canonical PDU each; how many."""
    count = 0
    with target.open("wb") as file:
        for pdu in entries(directory):
            file.write(pdu + b"\n")
            count += 1
    return count


def export_sqlite(directory: Path, target: Path) -> int:
    """Write a pulled log into a new SQLite file, table ``events``; how many.

    Raises:
        FileExistsError: the file exists.
    """
    if target.exists():
        raise FileExistsError(target)
    with sqlite3.connect(target) as connection:
        connection.execute(
            "CREATE TABLE events (seq INTEGER PRIMARY KEY, type TEXT NOT NULL, state_key TEXT,"
            " sender TEXT NOT NULL, origin_server_ts INTEGER NOT NULL, pdu TEXT NOT NULL) STRICT"
        )
        rows = (_row(seq, pdu) for seq, pdu in enumerate(entries(directory), start=1))
        count = connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", rows).rowcount
    connection.close()
    return count


def _row(seq: int, pdu: bytes) -> tuple[int, str, str | None, str, int, str]:
    event = orjson.loads(pdu)
    return (
        seq,
        event["type"],
        event.get("state_key"),
        event["sender"],
        event["origin_server_ts"],
        pdu.decode(),
    )
