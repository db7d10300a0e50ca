"""The part of the contract about message archives."""

from __future__ import annotations

from dataclasses import replace

from linearized.store.archive import ArchiveRecordRow, ArchiveRow, Kept
from linearized.store.base import Store
from linearized.store.pseudonyms import PseudonymRow
from tests.store.rows import ROOM

ALICE, BOB = "@alice:a.example", "@bob:a.example"
ARCHIVE, OTHER = bytes(16), bytes(15) + b"\x01"
NOW = 1_700_000_000_000


def record(number: int, *, expires_ts: int | None = None, sealed: bytes = b"ten bytes.") -> ArchiveRecordRow:
    return ArchiveRecordRow(
        number=number,
        seq=number + 10,
        event_id=f"${number}",
        tag=bytes([number]) * 16,
        expires_ts=expires_ts,
        stub=bytes(32),
        sealed=sealed,
    )


async def put(
    store: Store, *records: ArchiveRecordRow, user_id: str = ALICE, archive: bytes = ARCHIVE
) -> Kept:
    return await store.put_archive(user_id, ROOM, archive, records, most_records=4, most_bytes=50)


def stored(store: Store, *, after: int = 0, now_ms: int = NOW) -> list[ArchiveRecordRow]:
    return store.archive_records(ALICE, ARCHIVE, after=after, limit=10, now_ms=now_ms)


class ArchiveContract:
    """Order, bounds, expiry, release."""

    async def test_an_archive_grows_without_gaps_and_what_is_there_stays(self, store: Store) -> None:
        assert await put(store, record(2)) is Kept.GAP
        assert store.archives(ALICE) == []
        assert await put(store, record(1), record(2)) is Kept.ALL
        assert await put(store, record(2, sealed=b"another"), record(3)) is Kept.ALL
        assert await put(store, record(5)) is Kept.GAP
        assert stored(store) == [record(1), record(2), record(3)]
        assert stored(store, after=2) == [record(3)]
        assert store.archive_records(ALICE, ARCHIVE, after=0, limit=1, now_ms=NOW) == [record(1)]
        assert store.archives(ALICE) == [ArchiveRow(room_id=ROOM, archive=ARCHIVE, records=3, bytes=30)]

    async def test_an_archive_is_its_users_only(self, store: Store) -> None:
        await put(store, record(1))
        assert store.archive_records(BOB, ARCHIVE, after=0, limit=1, now_ms=NOW) == []
        assert await put(store, record(1), user_id=BOB) is Kept.ALL
        assert await store.remove_archive(BOB, ARCHIVE, limit=10) == 1
        assert await store.release_archive(BOB, ARCHIVE, [(record(1).tag, b"proof")]) == 0
        assert stored(store) == [record(1)]

    async def test_too_many_records_or_bytes_change_nothing(self, store: Store) -> None:
        await put(store, record(1), record(2), record(3))
        assert await put(store, record(1), record(2), archive=OTHER) is Kept.FULL
        assert await put(store, record(4, sealed=bytes(21))) is Kept.FULL
        assert stored(store) == [record(1), record(2), record(3)]
        assert [one.archive for one in store.archives(ALICE)] == [ARCHIVE]
        assert await put(store, record(4, sealed=bytes(20))) is Kept.ALL

    async def test_an_account_and_its_pseudonyms_have_one_bound(self, store: Store) -> None:
        for name in ("@one:a.example", "@two:a.example"):
            assert await store.put_pseudonym(PseudonymRow(user_id=name, owner=ALICE, created_ts=NOW), "DEV")
        assert await put(store, record(1), record(2), user_id="@one:a.example") is Kept.ALL
        assert await put(store, record(1)) is Kept.ALL
        assert await put(store, record(1), record(2), user_id="@two:a.example") is Kept.FULL
        assert await put(store, record(1), user_id="@two:a.example") is Kept.ALL
        for name in (ALICE, "@one:a.example"):
            assert await put(store, record(1), user_id=name, archive=OTHER) is Kept.FULL
        assert await put(store, record(1), user_id=BOB) is Kept.ALL

    async def test_what_expires_leaves_its_proof_and_makes_place(self, store: Store) -> None:
        await put(store, record(1, expires_ts=NOW), record(2, expires_ts=NOW + 1), record(3))
        gone = replace(record(1, expires_ts=NOW), sealed=None)
        rest = [record(2, expires_ts=NOW + 1), record(3)]
        assert stored(store) == [gone, *rest]
        assert stored(store, now_ms=NOW - 1) == [record(1, expires_ts=NOW), *rest]
        assert await store.expire(NOW) == 1
        assert await store.expire(NOW) == 0
        assert stored(store, now_ms=NOW - 1) == [gone, *rest]
        assert store.archives(ALICE)[0].bytes == 20

    async def test_what_is_released_leaves_both_proofs(self, store: Store) -> None:
        await put(store, record(1), replace(record(2), tag=record(1).tag), record(3))
        assert await store.release_archive(ALICE, ARCHIVE, [(record(1).tag, b"proof"), (b"no tag", b"")]) == 2
        assert await store.release_archive(ALICE, ARCHIVE, [(record(1).tag, b"again")]) == 0
        released = replace(record(1), sealed=None, release=b"proof")
        assert stored(store) == [released, replace(released, number=2, seq=12, event_id="$2"), record(3)]
        assert store.archives(ALICE)[0].bytes == 10

    async def test_archives_are_removed_in_steps(self, store: Store) -> None:
        await put(store, record(1), record(2))
        await put(store, record(1), archive=OTHER)
        assert await store.remove_archive(ALICE, None, limit=1) == 1
        assert stored(store) == [record(1)]
        assert store.archives(ALICE)[0] == ArchiveRow(room_id=ROOM, archive=ARCHIVE, records=1, bytes=10)
        assert await store.remove_archive(ALICE, OTHER, limit=10) == 1
        assert await store.remove_archive(ALICE, None, limit=10) == 1
        assert await store.remove_archive(ALICE, None, limit=10) == 0
        assert store.archives(ALICE) == []
