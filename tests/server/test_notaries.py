"""Keys of servers that do not answer, from those the operator trusts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from linearized.protocol.canonical import JsonObject
from linearized.protocol.signing import SigningKey, sign_json
from linearized.server.key_documents import HOUR_MS
from linearized.server.keys import KeyRing
from linearized.server.notaries import MAX_DOCUMENTS
from linearized.store.sqlite import SqliteStore
from tests.server.test_keys import NEW, OLD, START, Peers, document, new_ring


@pytest.fixture
def peers() -> Peers:
    return Peers(published={"b.example": document(OLD, until=START + 12 * HOUR_MS)})


@pytest.fixture
async def store(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore.open(tmp_path / "a.db", synchronous="OFF", in_thread=False)
    await nursery.start(opened.run)
    yield opened
    await opened.aclose()


NOTARY = SigningKey.generate("notary", b"t" * 32)


def notarised(*documents: JsonObject, key: SigningKey = NOTARY) -> list[JsonObject]:
    return [sign_json(one, name="notary.example", key=key) for one in documents]


@pytest.fixture
async def with_notary(peers: Peers, store: SqliteStore) -> KeyRing:
    peers.published["notary.example"] = document(NOTARY, until=START + HOUR_MS, server="notary.example")
    return new_ring(peers, store, notaries=("c.example", "down.example", "notary.example"))


async def test_a_server_that_answers_is_believed_without_a_notary(with_notary: KeyRing, peers: Peers) -> None:
    assert await with_notary.request_keys("b.example", [OLD.key_id]) == {OLD.key_id: OLD.verify_key}
    assert peers.queried == []


async def test_the_keys_of_a_server_that_is_down_come_from_the_first_notary_that_has_them(
    with_notary: KeyRing, peers: Peers, store: SqliteStore
) -> None:
    older = document(OLD, until=START - HOUR_MS, server="d.example")
    newer = document(NEW, until=START + HOUR_MS, server="d.example")
    peers.known_to["c.example"] = []
    peers.known_to["notary.example"] = notarised(older, newer)
    assert await with_notary.request_keys("d.example", [NEW.key_id]) == {NEW.key_id: NEW.verify_key}
    assert await with_notary.request_keys("d.example", [OLD.key_id]) == {}
    assert peers.queried == [
        ("c.example", "d.example"),
        ("down.example", "d.example"),
        ("notary.example", "d.example"),
    ]
    assert peers.fetched[0] == "d.example", "the server itself first"
    assert peers.fetched.count("d.example") == 1
    assert await with_notary.keys_for("d.example", [OLD.key_id]) == {OLD.key_id: OLD.verify_key}
    assert {row.key_id for row in store.server_keys("d.example")} == {OLD.key_id, NEW.key_id}


async def test_a_notary_vouches_for_no_notary(with_notary: KeyRing, peers: Peers) -> None:
    del peers.published["notary.example"]
    assert await with_notary.request_keys("notary.example", [NOTARY.key_id]) == {}
    assert peers.queried == []


@pytest.mark.parametrize(
    "answer",
    [
        [],
        "none",
        ["text"],
        [document(OLD, until=START + HOUR_MS, server="d.example")],
        notarised(document(OLD, until=START + HOUR_MS, server="d.example"), key=NEW),
        notarised(document(OLD, until=START + HOUR_MS, server="e.example")),
        notarised({**document(OLD, until=START, server="d.example"), "valid_until_ts": START + HOUR_MS}),
        notarised(*[{"server_name": "d.example"}] * MAX_DOCUMENTS)
        + notarised(document(OLD, until=START + HOUR_MS, server="d.example")),
    ],
)
async def test_what_a_notary_says_without_both_signatures_is_not_believed(
    with_notary: KeyRing, peers: Peers, answer: object
) -> None:
    peers.known_to["notary.example"] = answer
    assert await with_notary.request_keys("d.example", [OLD.key_id]) == {}


async def test_a_notary_whose_own_keys_cannot_be_had_is_not_believed(
    with_notary: KeyRing, peers: Peers
) -> None:
    del peers.published["notary.example"]
    peers.known_to["notary.example"] = notarised(document(OLD, until=START + HOUR_MS, server="d.example"))
    assert await with_notary.request_keys("d.example", [OLD.key_id]) == {}
