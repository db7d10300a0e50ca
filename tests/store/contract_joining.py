"""The part of the contract about joining codes."""

from __future__ import annotations

from dataclasses import replace

from linearized.store.base import Store
from linearized.store.joining import AdmissionRow, JoinCodeRow
from tests.store.rows import ALICE, BOB, OTHER_ROOM, ROOM

CODE = JoinCodeRow(room_id=ROOM, digest=b"\x01" * 32, creator=ALICE, uses_left=2, expires_ts=1000)
CATHY = "@cathy:c.example"


def admission(user_id: str = BOB, member_event_id: str = "") -> AdmissionRow:
    return AdmissionRow(
        room_id=ROOM,
        user_id=user_id,
        creator=ALICE,
        digest=CODE.digest,
        member_event_id=member_event_id,
        expires_ts=500,
    )


class JoinCodeContract:
    """Codes, and whom they let in."""

    async def test_codes_are_listed_by_room_as_they_expire(self, store: Store) -> None:
        later = replace(CODE, digest=b"\x00" * 32, expires_ts=2000)
        assert await store.put_join_code(later, most=2)
        assert await store.put_join_code(CODE, most=2)
        assert not await store.put_join_code(replace(CODE, digest=b"\x02" * 32), most=2)
        assert store.join_codes(ROOM) == [CODE, later]
        assert store.join_codes(OTHER_ROOM) == []

    async def test_a_code_lets_in_as_many_as_it_says_and_nobody_twice(self, store: Store) -> None:
        await store.put_join_code(CODE, most=2)
        assert await store.admit(admission(), now_ms=1)
        assert await store.admit(admission(), now_ms=2)
        assert store.join_codes(ROOM)[0].uses_left == 1
        assert store.admission(ROOM, BOB) == admission()
        assert store.admission(ROOM, CATHY) is None
        # Somebody who came, left and shows it again uses it again.
        assert await store.admit(admission(member_event_id="$left"), now_ms=3)
        assert not await store.admit(admission(CATHY), now_ms=4)
        assert store.admission(ROOM, CATHY) is None

    async def test_an_expired_or_unknown_code_lets_nobody_in(self, store: Store) -> None:
        assert not await store.admit(admission(), now_ms=1)
        await store.put_join_code(CODE, most=2)
        assert not await store.admit(admission(), now_ms=CODE.expires_ts)

    async def test_a_revoked_code_lets_nobody_in_and_those_it_let_in_no_more(self, store: Store) -> None:
        await store.put_join_code(CODE, most=2)
        await store.admit(admission(), now_ms=1)
        assert not await store.remove_join_code(OTHER_ROOM, CODE.digest)
        assert await store.remove_join_code(ROOM, CODE.digest)
        assert store.admission(ROOM, BOB) is None
        assert not await store.admit(admission(), now_ms=2)
        assert not await store.remove_join_code(ROOM, CODE.digest)

    async def test_codes_and_admissions_expire(self, store: Store) -> None:
        await store.put_join_code(CODE, most=2)
        await store.admit(admission(), now_ms=1)
        await store.expire(499)
        assert store.admission(ROOM, BOB) is not None
        await store.expire(500)
        assert store.admission(ROOM, BOB) is None
        assert store.join_codes(ROOM) != []
        await store.expire(1000)
        assert store.join_codes(ROOM) == []
