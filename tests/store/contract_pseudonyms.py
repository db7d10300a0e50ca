"""The part of the contract about pseudonyms."""

from __future__ import annotations

from linearized.store.base import DeviceRow, Store, UserRow
from linearized.store.pseudonyms import PseudonymRow
from tests.store.rows import ALICE, BOB, OTHER_ROOM, ROOM

PSEUDONYM = "@0b5c2d3e-7f1a-4c6b-9d8e-1a2b3c4d5e6f:a.example"
ROW = PseudonymRow(user_id=PSEUDONYM, owner=ALICE, created_ts=7)


class PseudonymContract:
    """Whose a pseudonym is, and the room it is for."""

    async def test_a_pseudonym_is_a_user_with_a_device_and_without_a_password(self, store: Store) -> None:
        assert store.pseudonym(PSEUDONYM) is None
        for _ in range(2):
            assert await store.put_pseudonym(ROW, "PHONE")
        assert store.pseudonym(PSEUDONYM) == ROW
        assert store.user(PSEUDONYM) == UserRow(user_id=PSEUDONYM, password_hash=None, created_ts=7)
        assert store.devices(PSEUDONYM) == [
            DeviceRow(user_id=PSEUDONYM, device_id="PHONE", display_name=None, token_hash=None)
        ]

    async def test_it_has_as_many_devices_as_are_made(self, store: Store) -> None:
        for device_id in ("PHONE", "LAPTOP"):
            assert await store.put_pseudonym(ROW, device_id)
        assert [device.device_id for device in store.devices(PSEUDONYM)] == ["LAPTOP", "PHONE"]

    async def test_nobody_else_gets_it(self, store: Store) -> None:
        assert await store.put_pseudonym(ROW, "PHONE")
        other = PseudonymRow(user_id=PSEUDONYM, owner=BOB, created_ts=9)
        assert not await store.put_pseudonym(other, "LAPTOP")
        assert store.pseudonym(PSEUDONYM) == ROW
        assert [device.device_id for device in store.devices(PSEUDONYM)] == ["PHONE"]

    async def test_a_user_who_is_there_is_nobodys_pseudonym(self, store: Store) -> None:
        await store.put_user(UserRow(user_id=PSEUDONYM, password_hash="x", created_ts=1))
        assert not await store.put_pseudonym(ROW, "PHONE")
        assert store.pseudonym(PSEUDONYM) is None
        assert store.devices(PSEUDONYM) == []

    async def test_it_is_for_the_first_room_it_is_used_for(self, store: Store) -> None:
        assert not await store.bind_pseudonym(PSEUDONYM, ROOM)
        await store.put_pseudonym(ROW, "PHONE")
        for _ in range(2):
            assert await store.bind_pseudonym(PSEUDONYM, ROOM)
        assert not await store.bind_pseudonym(PSEUDONYM, OTHER_ROOM)
        bound = store.pseudonym(PSEUDONYM)
        assert bound is not None
        assert bound.room_id == ROOM
        await store.put_pseudonym(ROW, "LAPTOP")
        assert store.pseudonym(PSEUDONYM) == bound

    async def test_an_accounts_pseudonyms_are_listed_oldest_first(self, store: Store) -> None:
        second = PSEUDONYM.replace("0b5c", "1b5c")
        await store.put_pseudonym(PseudonymRow(user_id=second, owner=ALICE, created_ts=3), "PHONE")
        await store.put_pseudonym(ROW, "PHONE")
        assert [row.user_id for row in store.pseudonyms_of(ALICE)] == [second, PSEUDONYM]
        assert store.pseudonyms_of(BOB) == []

    async def test_it_is_forgotten_with_its_devices_and_never_given_again(self, store: Store) -> None:
        await store.put_pseudonym(ROW, "PHONE")
        await store.put_pseudonym(ROW, "LAPTOP")
        await store.delete_pseudonym(PSEUDONYM)
        assert store.pseudonym(PSEUDONYM) is None
        assert store.devices(PSEUDONYM) == []
        assert not await store.put_pseudonym(ROW, "PHONE")

    async def test_nobody_else_is_forgotten(self, store: Store) -> None:
        await store.put_user(UserRow(user_id=ALICE, password_hash=None, created_ts=1))
        phone = DeviceRow(user_id=ALICE, device_id="PHONE", display_name=None, token_hash=None)
        await store.put_device(phone)
        await store.delete_pseudonym(ALICE)
        assert store.devices(ALICE) == [phone]
