"""The part of the contract about verifiable history."""

from __future__ import annotations

from dataclasses import replace

import pytest

from linearized.exceptions import StoreError
from linearized.store.base import Store
from linearized.store.history import AuditRow, FindingRow
from tests.store.rows import OTHER_ROOM, ROOM, entry, event_id, new_room


def audit(room_id: str = ROOM) -> AuditRow:
    return AuditRow(
        room_id=room_id,
        hub="a.example",
        anchor_seq=4,
        anchor_size=9,
        anchor_frontier=bytes(64),
        size=10,
        frontier=b"\xff" * 64,
        checkpoint="a.example\n10\n\N{SNOWMAN}\n",
        key_id="ed25519:a",
        checked_at=1_700_000_000_000,
    )


def finding(digest: str, *, room_id: str = ROOM, found_at: int = 5, proven: bool = True) -> FindingRow:
    return FindingRow(
        digest=digest,
        room_id=room_id,
        hub="a.example",
        proven=proven,
        reason="two histories",
        document='{"é":1}',
        found_at=found_at,
    )


class HistoryContract:
    """Tiles, audits, findings."""

    async def test_event_ids_are_read_in_pages_without_their_events(self, store: Store) -> None:
        await store.append(new_room(*[entry(seq) for seq in range(1, 6)]))
        await store.append(new_room(entry(1, room_id=OTHER_ROOM), room_id=OTHER_ROOM))
        ids = [event_id(ROOM, seq) for seq in range(1, 6)]
        assert store.event_ids(ROOM, after=0, limit=3) == ids[:3]
        assert store.event_ids(ROOM, after=3, limit=100) == ids[3:]
        assert store.event_ids(ROOM, after=-7, limit=1) == ids[:1]
        assert store.event_ids(ROOM, after=5, limit=1) == []
        assert store.event_ids(ROOM, after=0, limit=-1) == []
        assert store.event_ids(ROOM, after=2**60, limit=1) == []
        assert store.event_ids("!unknown:a.example", after=0, limit=1) == []

    async def test_tiles_are_kept_by_room_and_level_and_never_change(self, store: Store) -> None:
        await store.append(new_room())
        await store.append(new_room(room_id=OTHER_ROOM))
        hashes = [bytes([number]) * 32 for number in range(5)]
        await store.put_tree_hashes(ROOM, 1, 0, hashes[:3])
        await store.put_tree_hashes(ROOM, 1, 2, [bytes(32), *hashes[3:]])
        await store.put_tree_hashes(ROOM, 2, 0, hashes[4:])
        await store.put_tree_hashes(OTHER_ROOM, 1, 0, hashes[4:])
        assert store.tree_hashes(ROOM, 1, first=0, limit=9) == hashes
        assert store.tree_hashes(ROOM, 1, first=3, limit=1) == hashes[3:4]
        assert store.tree_hashes(ROOM, 1, first=5, limit=9) == []
        assert store.tree_hashes(ROOM, 3, first=0, limit=9) == []
        assert store.tree_hashes(ROOM, 1, first=0, limit=-1) == []
        assert [store.tree_count(ROOM, level) for level in (1, 2, 3)] == [5, 1, 0]
        assert store.tree_count("!unknown:a.example", 1) == 0
        with pytest.raises(StoreError):
            await store.put_tree_hashes("!unknown:a.example", 1, 0, hashes)

    async def test_the_latest_audit_of_a_room_is_kept(self, store: Store) -> None:
        await store.append(new_room())
        assert store.audit(ROOM) is None
        await store.put_audit(audit())
        newer = replace(audit(), size=12, checkpoint="newer")
        await store.put_audit(newer)
        assert store.audit(ROOM) == newer
        assert store.audit(OTHER_ROOM) is None
        with pytest.raises(StoreError):
            await store.put_audit(audit(OTHER_ROOM))

    async def test_findings_are_kept_once_and_listed_in_the_order_they_came(self, store: Store) -> None:
        later, earlier = finding("a", found_at=9), finding("b", found_at=3, proven=False)
        elsewhere = finding("c", room_id=OTHER_ROOM, found_at=4)
        assert await store.put_finding(later)
        assert await store.put_finding(earlier)
        assert await store.put_finding(elsewhere)
        assert not await store.put_finding(replace(later, reason="changed"))
        assert store.findings() == [earlier, elsewhere, later]
        assert store.findings(ROOM) == [earlier, later]
        assert store.findings("!unknown:a.example") == []

    async def test_a_dismissed_finding_is_kept_and_opened_when_it_is_found_again(self, store: Store) -> None:
        first, second = finding("a", found_at=1), finding("b", found_at=2)
        for found in (first, second):
            await store.put_finding(found)
        await store.dismiss_findings(["a", "unknown"], 7)
        await store.dismiss_findings(["a"], 9)
        assert store.findings() == [replace(first, dismissed_at=7), second]
        again = replace(first, found_at=11, document="{}")
        assert await store.put_finding(again)
        assert not await store.put_finding(again)
        assert store.findings() == [second, again]

    async def test_a_forgotten_audit_leaves_the_others(self, store: Store) -> None:
        for room_id in (ROOM, OTHER_ROOM):
            await store.append(new_room(room_id=room_id))
            await store.put_audit(audit(room_id))
        await store.delete_audit(ROOM)
        await store.delete_audit(ROOM)
        await store.delete_audit("!unknown:a.example")
        assert store.audit(ROOM) is None
        assert store.audit(OTHER_ROOM) == audit(OTHER_ROOM)
