"""What every Store does: subclass ``StoreContract`` and give it a ``store`` fixture.

The fixture is a running, empty store.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing

from linearized.exceptions import StoreError
from linearized.store.base import (
    Store,
)
from tests.store.contract_account_data import AccountDataContract
from tests.store.contract_accounts import AccountContract
from tests.store.contract_activity import ActivityContract
from tests.store.contract_archive import ArchiveContract
from tests.store.contract_contacts import ContactContract
from tests.store.contract_directory import DirectoryContract
from tests.store.contract_history import HistoryContract
from tests.store.contract_joining import JoinCodeContract
from tests.store.contract_key_packages import KeyPackageContract
from tests.store.contract_log import LogContract
from tests.store.contract_moving import MovingContract
from tests.store.contract_parents import ParentContract
from tests.store.contract_past_trees import PastTreeContract
from tests.store.contract_profiles import ProfileContract
from tests.store.contract_pseudonyms import PseudonymContract
from tests.store.contract_pulling import PullContract
from tests.store.contract_receipts import ReceiptContract
from tests.store.contract_relations import RelationContract
from tests.store.contract_state import StateContract
from tests.store.contract_ways_in import WayContract
from tests.store.rows import (
    ROOM,
    entry,
    message,
    new_room,
)


class ClosingContract:
    """The end."""

    async def test_what_was_submitted_before_closing_is_kept_and_nothing_after(self, store: Store) -> None:
        await store.append(new_room(entry(1)))
        acknowledged: list[int] = []

        async def submit(seq: int) -> None:
            await store.append(message(seq))
            acknowledged.append(seq)

        async with trio.open_nursery() as nursery:
            for seq in range(2, 6):
                nursery.start_soon(submit, seq)
                await trio.testing.wait_all_tasks_blocked()
            await store.aclose()
        assert sorted(acknowledged) == [2, 3, 4, 5]
        with pytest.raises(StoreError):
            await store.append(message(6))
        with pytest.raises(StoreError):
            store.room(ROOM)
        await store.aclose()


class StoreContract(
    AccountDataContract,
    ActivityContract,
    ArchiveContract,
    LogContract,
    StateContract,
    AccountContract,
    KeyPackageContract,
    HistoryContract,
    MovingContract,
    ContactContract,
    PastTreeContract,
    PullContract,
    PseudonymContract,
    JoinCodeContract,
    ReceiptContract,
    RelationContract,
    ProfileContract,
    DirectoryContract,
    ParentContract,
    WayContract,
    ClosingContract,
):
    """The whole protocol."""
