"""The part of the contract about profiles and forgotten rooms."""

from __future__ import annotations

import pytest

from linearized.exceptions import StoreError
from linearized.store.base import Store
from linearized.store.profiles import ProfileRow
from tests.store.rows import ALICE, BOB, OTHER_ROOM, ROOM, entry, new_room


class ProfileContract:
    """Setting and reading."""

    async def test_a_profile_is_empty_until_it_is_set_and_can_be_replaced(self, store: Store) -> None:
        assert store.profile(ALICE) == ProfileRow(user_id=ALICE)
        for profile in (
            ProfileRow(user_id=ALICE, displayname="Alice", avatar_url="mxc://a.example/x"),
            ProfileRow(user_id=ALICE, displayname="Al"),
        ):
            await store.put_profile(profile)
            assert store.profile(ALICE) == profile
        assert store.profile(BOB) == ProfileRow(user_id=BOB)

    async def test_a_room_is_forgotten_by_one_user_up_to_an_entry(self, store: Store) -> None:
        await store.append(new_room(entry(1)))
        assert store.forgotten(ALICE, ROOM) is None
        for seq in (1, 2):
            await store.put_forgotten(ALICE, ROOM, seq)
            assert store.forgotten(ALICE, ROOM) == seq
        assert store.forgotten(BOB, ROOM) is store.forgotten(ALICE, OTHER_ROOM) is None
        with pytest.raises(StoreError):
            await store.put_forgotten(ALICE, OTHER_ROOM, 1)
