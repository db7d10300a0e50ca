from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.client import (
    DecryptedMessage,
    EpochChanged,
    FileStorage,
    GroupLost,
    Joined,
    MembershipChanged,
    MemoryStorage,
    MlsDevice,
    OwnMessage,
    RoomEvent,
    StateFileError,
    Undecryptable,
)
from linearized.client.state import Outgoing, PendingCommit, RoomRecord, SavedState

USER, DEVICE = "@alice:a.example", "DEV"


def test_a_file_is_replaced_whole_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "alice"
    with FileStorage(path) as storage:
        assert storage.load() is None
        storage.save(b"one")
        storage.save(b"two")
        assert storage.load() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FileStorage(tmp_path / "s") as storage:
        storage.save(b"one")

        def full(_: int) -> None:
            raise OSError("disk full")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="disk full"):
            storage.save(b"two")
        assert storage.load() == b"one"


def test_two_processes_cannot_continue_from_one_state(tmp_path: Path) -> None:
    with FileStorage(tmp_path / "s"), pytest.raises(StateFileError, match="in use"):
        FileStorage(tmp_path / "s")
    FileStorage(tmp_path / "s").close()


def test_everything_a_device_knows_survives() -> None:
    common: dict[str, Any] = {"room_id": "!r:x", "event_id": "$1", "timestamp": 5}
    state = SavedState(
        mls=b"mls",
        since="s1",
        fallback_uploaded=True,
        rooms={
            "!r:x": RoomRecord(
                last_seq=4,
                commit_event_id="$c",
                pending=PendingCommit(digest=b"d", bundle=b"b", external=True, group_info=b"g"),
                merged=b"m",
                lost=True,
                gone=["@x:y"],
            )
        },
        inbox=[
            RoomEvent(**common, event={"content": {"list": [1, {"a": None}]}}),
            MembershipChanged(**common, user_id="@a:x", membership="join", sender="@b:x", event={}),
            DecryptedMessage(**common, sender_uri="u", client_uri="c", epoch=3, payload=b"p"),
            OwnMessage(**common, transaction_id="t", payload=b"p"),
            Undecryptable(**common, sender="@a:x", reason="r"),
            Joined(**common, epoch=1),
            EpochChanged(**common, epoch=2, committer="c", added=("x", "y"), removed=()),
            GroupLost(**common, removed=False, reason="r"),
        ],
        outbox={"t": Outgoing(room_id="!r:x", ciphertext=b"c", digest=b"d", payload=b"p", sent=True)},
    )
    assert SavedState.decode(state.encode()) == state


@given(st.binary(max_size=200))
def test_damaged_state_is_said_to_be_damaged(data: bytes) -> None:
    with pytest.raises(StateFileError):
        SavedState.decode(data)


def test_a_state_cut_short_is_damaged_at_every_length() -> None:
    whole = SavedState(mls=b"mls", inbox=[Joined(room_id="!r:x", epoch=1)]).encode()
    for length in range(len(whole)):
        with pytest.raises(StateFileError):
            SavedState.decode(whole[:length])


def test_a_device_continues_as_itself_and_as_nobody_else() -> None:
    storage = MemoryStorage()
    first = MlsDevice.open(storage, user_id=USER, device_id=DEVICE)
    again = MlsDevice.open(storage, user_id=USER, device_id=DEVICE)
    assert again.client.signature_key == first.client.signature_key
    with pytest.raises(StateFileError, match="another device"):
        MlsDevice.open(storage, user_id=USER, device_id="OTHER")
    storage.data = SavedState(mls=b"rubbish").encode()
    with pytest.raises(StateFileError, match="damaged"):
        MlsDevice.open(storage, user_id=USER, device_id=DEVICE)
