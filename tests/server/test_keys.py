"""The key ring: what it believes, how long, and how often it asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing

from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.signing import RetiredKey, ServerIdentity, SigningKey, sign_json
from linearized.server import keys as keys_module
from linearized.server.key_documents import HOUR_MS, own_document
from linearized.server.keys import Crowded, KeyRing
from linearized.server.notaries import Notaries
from linearized.server.outbound import OutboundError
from linearized.store.sqlite import SqliteStore

START = 1_700_000_000_000
OWN = ServerIdentity("a.example", SigningKey.generate("own", b"a" * 32))
OLD = SigningKey.generate("old", b"o" * 32)
NEW = SigningKey.generate("new", b"n" * 32)
PEER = ServerIdentity("b.example", OLD)


def document(
    *keys: SigningKey, until: int, old: dict[SigningKey, int] | None = None, server: str = "b.example"
) -> JsonObject:
    value: JsonObject = {
        "server_name": server,
        "valid_until_ts": until,
        "verify_keys": {key.key_id: {"key": encode_base64(key.verify_key)} for key in keys},
        "old_verify_keys": {
            key.key_id: {"key": encode_base64(key.verify_key), "expired_ts": expired}
            for key, expired in (old or {}).items()
        },
    }
    for key in keys:
        value = sign_json(value, name=server, key=key)
    return value


@dataclass
class Peers:
    """The network: what each server publishes now, or nothing."""

    now: int = START
    published: dict[str, JsonObject] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    hold: trio.Event | None = None
    known_to: dict[str, object] = field(default_factory=dict)  # by notary, whatever it answers
    queried: list[tuple[str, str]] = field(default_factory=list)

    async def query(self, notary: str, server: str) -> JsonObject:
        self.queried.append((notary, server))
        await trio.lowlevel.checkpoint()
        if notary not in self.known_to:
            raise OutboundError("down")
        return {"server_keys": self.known_to[notary]}

    async def fetch(self, server: str) -> JsonObject:
        self.fetched.append(server)
        await trio.lowlevel.checkpoint()
        if self.hold is not None:
            await self.hold.wait()
        if server not in self.published:
            raise OutboundError("down")
        return self.published[server]


@pytest.fixture
def peers() -> Peers:
    return Peers(published={"b.example": document(OLD, until=START + 12 * HOUR_MS)})


@pytest.fixture
async def store(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore.open(tmp_path / "a.db", synchronous="OFF", in_thread=False)
    await nursery.start(opened.run)
    yield opened
    await opened.aclose()


@pytest.fixture
async def ring(peers: Peers, store: SqliteStore) -> KeyRing:
    return new_ring(peers, store)


def new_ring(
    peers: Peers, store: SqliteStore, *, identity: ServerIdentity = OWN, notaries: tuple[str, ...] = ()
) -> KeyRing:
    return KeyRing(
        identity=identity,
        store=store,
        clock=lambda: peers.now,
        fetch=peers.fetch,
        notaries=Notaries(notaries, peers.query),
    )


async def test_keys_are_fetched_once_and_kept(ring: KeyRing, peers: Peers) -> None:
    for _ in range(3):
        assert await ring.keys_for("b.example", [OLD.key_id]) == {OLD.key_id: OLD.verify_key}
        assert await ring.request_keys("b.example", [OLD.key_id]) == {OLD.key_id: OLD.verify_key}
    assert peers.fetched == ["b.example"]


async def test_only_the_keys_asked_for_are_given(ring: KeyRing, peers: Peers) -> None:
    peers.published["b.example"] = document(OLD, NEW, until=START + HOUR_MS)
    assert await ring.keys_for("b.example", [NEW.key_id]) == {NEW.key_id: NEW.verify_key}
    assert await ring.request_keys("b.example", [NEW.key_id]) == {NEW.key_id: NEW.verify_key}


async def test_our_own_key_needs_no_network(ring: KeyRing, peers: Peers) -> None:
    assert await ring.keys_for("a.example", ["x"]) == {OWN.key.key_id: OWN.key.verify_key}
    assert await ring.request_keys("a.example", [OWN.key.key_id]) == {}, "we send ourselves no requests"
    assert await ring.document("a.example", 0) == [own_document(OWN, START)]
    assert peers.fetched == []


async def test_what_is_no_server_name_is_not_asked(ring: KeyRing, peers: Peers) -> None:
    assert await ring.keys_for("b.example/path", [OLD.key_id]) == {}
    assert peers.fetched == []


async def test_many_questions_at_once_make_one_request(ring: KeyRing, peers: Peers) -> None:
    peers.hold = trio.Event()
    answers: list[object] = []

    async def ask() -> None:
        answers.append(await ring.request_keys("b.example", [OLD.key_id]))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        peers.hold.set()
    assert answers == [{OLD.key_id: OLD.verify_key}] * 20
    assert peers.fetched == ["b.example"]


async def test_a_question_given_up_does_not_leave_the_others_waiting(ring: KeyRing, peers: Peers) -> None:
    peers.hold = trio.Event()
    answers: list[object] = []

    async def ask() -> None:
        answers.append(await ring.request_keys("b.example", [OLD.key_id]))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as first:
            async with trio.open_nursery() as inner:
                inner.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                first.cancel()
        peers.hold.set()
    assert answers == [{OLD.key_id: OLD.verify_key}]


async def test_keys_are_refreshed_after_half_their_life(ring: KeyRing, peers: Peers) -> None:
    await ring.request_keys("b.example", [OLD.key_id])
    peers.now += 6 * HOUR_MS - 1
    await ring.request_keys("b.example", [OLD.key_id])
    assert len(peers.fetched) == 1
    peers.now += 1
    peers.published["b.example"] = document(NEW, until=peers.now + 12 * HOUR_MS, old={OLD: peers.now})
    assert await ring.request_keys("b.example", [OLD.key_id, NEW.key_id]) == {NEW.key_id: NEW.verify_key}
    assert len(peers.fetched) == 2


async def test_an_old_key_proves_events_but_no_requests(ring: KeyRing, peers: Peers) -> None:
    peers.published["b.example"] = document(NEW, until=START + HOUR_MS, old={OLD: START - 1})
    assert await ring.keys_for("b.example", [OLD.key_id]) == {OLD.key_id: OLD.verify_key}
    assert await ring.request_keys("b.example", [OLD.key_id]) == {}


async def test_a_key_listed_as_both_current_and_old_proves_no_requests(ring: KeyRing, peers: Peers) -> None:
    peers.published["b.example"] = document(OLD, until=START + HOUR_MS, old={OLD: START - 1})
    assert await ring.request_keys("b.example", [OLD.key_id]) == {}


async def test_a_server_that_is_down_keeps_its_keys_until_they_expire(ring: KeyRing, peers: Peers) -> None:
    await ring.request_keys("b.example", [OLD.key_id])
    peers.published.clear()
    peers.now = START + 12 * HOUR_MS
    assert await ring.request_keys("b.example", [OLD.key_id]) == {OLD.key_id: OLD.verify_key}
    peers.now += 1
    assert await ring.request_keys("b.example", [OLD.key_id]) == {}
    assert await ring.keys_for("b.example", [OLD.key_id]) == {OLD.key_id: OLD.verify_key}


async def test_validity_ends_after_seven_days_whatever_the_server_says(ring: KeyRing, peers: Peers) -> None:
    peers.published["b.example"] = document(OLD, until=START + 10**12)
    await ring.request_keys("b.example", [OLD.key_id])
    peers.published.clear()
    peers.now = START + 7 * 24 * HOUR_MS
    assert await ring.request_keys("b.example", [OLD.key_id])
    peers.now += 1
    assert await ring.request_keys("b.example", [OLD.key_id]) == {}


async def test_an_unknown_key_makes_us_ask_again_but_not_at_every_mention(
    ring: KeyRing, peers: Peers
) -> None:
    await ring.keys_for("b.example", [OLD.key_id])
    peers.published["b.example"] = document(OLD, NEW, until=START + 12 * HOUR_MS)
    for _ in range(5):
        assert await ring.keys_for("b.example", [NEW.key_id]) == {}
        assert await ring.request_keys("b.example", [NEW.key_id]) == {}
    assert len(peers.fetched) == 1
    peers.now += keys_module.MIN_REFETCH_MS
    assert await ring.keys_for("b.example", [NEW.key_id]) == {NEW.key_id: NEW.verify_key}
    assert len(peers.fetched) == 2


async def test_a_server_that_does_not_answer_is_asked_ever_less_often(ring: KeyRing, peers: Peers) -> None:
    peers.published.clear()
    asked_at = []
    for second in range(1000):
        before = len(peers.fetched)
        assert await ring.request_keys("b.example", [OLD.key_id]) == {}
        if len(peers.fetched) > before:
            asked_at.append(second)
        peers.now += 1000
    assert asked_at == [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811]


@pytest.mark.parametrize(
    "published",
    [
        document(OLD, until=START + HOUR_MS, server="c.example"),
        {**document(OLD, until=START + HOUR_MS), "valid_until_ts": START + 2 * HOUR_MS},
        {**document(OLD, until=START + HOUR_MS), "signatures": {}},
        {},
    ],
)
async def test_a_document_that_proves_nothing_is_not_believed(
    ring: KeyRing, peers: Peers, published: JsonObject
) -> None:
    peers.published["b.example"] = published
    assert await ring.keys_for("b.example", [OLD.key_id]) == {}
    assert await ring.document("b.example", START) == []


async def test_keys_survive_a_restart(peers: Peers, store: SqliteStore) -> None:
    await new_ring(peers, store).keys_for("b.example", [OLD.key_id])
    peers.published.clear()
    restarted = new_ring(peers, store)
    assert await restarted.keys_for("b.example", [OLD.key_id]) == {OLD.key_id: OLD.verify_key}
    assert await restarted.document("b.example", START) == [document(OLD, until=START + 12 * HOUR_MS)]


async def test_a_notary_keeps_documents_with_distinct_keys(ring: KeyRing, peers: Peers) -> None:
    first = peers.published["b.example"]
    assert await ring.document("b.example", START) == [first]
    await ring.confirm("b.example")
    second = document(NEW, until=START + 24 * HOUR_MS)
    peers.published["b.example"] = second
    peers.now += 12 * HOUR_MS
    assert await ring.document("b.example", peers.now) == [second, first]


async def test_a_notary_asks_again_for_a_longer_validity(ring: KeyRing, peers: Peers) -> None:
    await ring.document("b.example", START)
    peers.now += keys_module.MIN_REFETCH_MS
    await ring.document("b.example", START + 12 * HOUR_MS)
    assert len(peers.fetched) == 1
    await ring.document("b.example", START + 12 * HOUR_MS + 1)
    assert len(peers.fetched) == 2


async def test_memory_for_servers_is_bounded(
    ring: KeyRing, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "MAX_SERVERS", 2)
    for name in ("c.example", "d.example", "e.example", "e.example", "c.example"):
        await ring.request_keys(name, [OLD.key_id])
    assert peers.fetched == ["c.example", "d.example", "e.example", "c.example"]


async def test_what_we_signed_with_a_retired_key_is_ours(peers: Peers, store: SqliteStore) -> None:
    retired = RetiredKey(key_id=OLD.key_id, verify_key=OLD.verify_key, expired_ts=START)
    ring = new_ring(peers, store, identity=ServerIdentity("a.example", OWN.key, (retired,)))
    assert (await ring.keys_for("a.example", [OLD.key_id]))[OLD.key_id] == OLD.verify_key
    (published,) = await ring.document("a.example", 0)
    assert published["old_verify_keys"][OLD.key_id]["expired_ts"] == START


# --- what anybody may make us do ---


async def test_nothing_is_written_for_a_server_that_did_not_prove_itself(
    ring: KeyRing, peers: Peers, store: SqliteStore
) -> None:
    await ring.request_keys("b.example", [OLD.key_id])
    await ring.document("b.example", START)
    assert store.server_keys("b.example") == []
    await ring.confirm("b.example")
    assert [row.key_id for row in store.server_keys("b.example")] == [OLD.key_id]
    await ring.confirm("c.example")
    assert store.server_keys("c.example") == []


async def test_confirming_a_server_that_never_answered_keeps_nothing(
    ring: KeyRing, peers: Peers, store: SqliteStore
) -> None:
    peers.published.clear()
    await ring.request_keys("b.example", [OLD.key_id])
    await ring.confirm("b.example")
    assert store.server_keys("b.example") == []
    await ring.request_keys("b.example", [OLD.key_id])
    assert len(peers.fetched) == 1, "its pause goes on"


async def test_strangers_are_fetched_so_many_at_a_time_and_others_are_refused_at_once(
    ring: KeyRing, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ring.request_keys("b.example", [OLD.key_id])
    await ring.confirm("b.example")
    peers.now += 12 * HOUR_MS
    peers.hold = trio.Event()
    monkeypatch.setattr(keys_module, "STRANGERS_WAITING", 3)
    refused: list[str] = []

    async def ask(server: str) -> None:
        try:
            await ring.request_keys(server, [OLD.key_id])
        except Crowded:
            refused.append(server)

    async with trio.open_nursery() as nursery:
        for number in range(keys_module.STRANGER_FETCHES + 5):
            nursery.start_soon(ask, f"s{number}.example")
            await trio.testing.wait_all_tasks_blocked()
        assert len(peers.fetched) == 1 + keys_module.STRANGER_FETCHES
        assert len(refused) == 5
        for _ in range(5):
            nursery.start_soon(ask, "s0.example")
        await trio.testing.wait_all_tasks_blocked()
        assert refused[5:] == ["s0.example"] * 2, "a few may wait for the same server"
        assert await ring.document("s99.example", START) == []
        nursery.start_soon(ask, "b.example")
        await trio.testing.wait_all_tasks_blocked()
        assert peers.fetched[-1] == "b.example", "a server we know is not held up by them"
        peers.hold.set()
    assert len(peers.fetched) == 2 + keys_module.STRANGER_FETCHES


async def test_a_fetch_that_takes_too_long_is_given_up(
    ring: KeyRing, peers: Peers, autojump_clock: trio.testing.MockClock
) -> None:
    peers.hold = trio.Event()
    assert await ring.request_keys("b.example", [OLD.key_id]) == {}
    assert trio.current_time() == keys_module.FETCH_SECONDS


async def test_documents_of_strangers_take_bounded_memory(
    ring: KeyRing, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "MAX_UNPROVEN", 2)
    names = [f"s{number}.example" for number in range(4)]
    for name in names:
        peers.published[name] = document(OLD, until=START + HOUR_MS, server=name)
        assert await ring.request_keys(name, [OLD.key_id])
    kept = [name for name in names if await ring.request_keys(name, [OLD.key_id])]
    assert kept == names[2:]
    assert len(peers.fetched) == 4, "what was dropped is not fetched again before its time"


async def test_a_flood_of_names_pushes_out_no_server_that_proved_itself(
    ring: KeyRing, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "MAX_SERVERS", 2)
    await ring.request_keys("b.example", [OLD.key_id])
    await ring.confirm("b.example")
    for number in range(5):
        await ring.request_keys(f"s{number}.example", [OLD.key_id])
    assert await ring.request_keys("b.example", [OLD.key_id])
    assert peers.fetched.count("b.example") == 1


async def test_the_servers_that_proved_themselves_take_bounded_memory_too(
    ring: KeyRing, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "MAX_SERVERS", 1)
    for name in ("c.example", "d.example"):
        peers.published[name] = document(OLD, until=START + HOUR_MS, server=name)
        await ring.keys_for(name, [OLD.key_id])
    assert list(ring._known) == ["d.example"]
    assert await ring.keys_for("c.example", [OLD.key_id]) == {OLD.key_id: OLD.verify_key}


async def test_the_keys_kept_of_one_server_are_bounded_but_a_new_one_is_used(
    ring: KeyRing, peers: Peers, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "MAX_KEPT_KEYS", 1)
    await ring.keys_for("b.example", [OLD.key_id])
    peers.now += keys_module.MIN_REFETCH_MS
    peers.published["b.example"] = document(NEW, until=peers.now + HOUR_MS, old={OLD: peers.now})
    assert await ring.keys_for("b.example", [NEW.key_id]) == {NEW.key_id: NEW.verify_key}
    assert [row.key_id for row in store.server_keys("b.example")] == [OLD.key_id]
