from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from bridges.matrix.database import Database
from bridges.matrix.device_states import DeviceStorage, has_secrets, unsealed_states
from bridges.matrix.keyfile import storage_key
from bridges.matrix.puppets import DEVICE, Puppets
from linearized.client import SEALED, MlsDevice, SealedStorage, StateFileError
from linearized.exceptions import ConfigError
from tests.bridges.support import ALICE, CAROL
from tests.bridges.test_live import heard, talking

NEW = b"n" * 32


def test_a_storage_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "bridge.key"
    assert storage_key(path, fresh=NEW, required=False) == NEW
    assert path.stat().st_mode & 0o777 == 0o600
    assert storage_key(path, fresh=b"x" * 32, required=True) == NEW


def test_a_storage_key_that_is_lost_or_broken_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "bridge.key"
    with pytest.raises(ConfigError, match="restore it"):
        storage_key(path, fresh=NEW, required=True)
    assert not path.exists()
    path.write_bytes(b"short")
    with pytest.raises(ConfigError, match="must hold 32 bytes"):
        storage_key(path, fresh=NEW, required=False)
    with pytest.raises(ConfigError, match="cannot read"):
        storage_key(tmp_path, fresh=NEW, required=False)


def states(database: Database) -> list[bytes]:
    return [row["state"] for row in database.all("SELECT state FROM devices")]


async def test_the_states_of_bridged_users_are_sealed_in_the_database(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        world.homeserver.say(room, CAROL, "hello")
        await world.settle()
        with closing(sqlite3.connect(tmp_path / "bridge.sqlite")) as connection:
            rows = connection.execute("SELECT state FROM devices").fetchall()
        assert len(rows) > 1
        assert all(state.startswith(SEALED) for (state,) in rows)
        (got,) = await heard(bob)
        assert got.sender_uri == "mimi://matrix.example/u/carol"


async def test_states_that_an_older_bridge_wrote_are_sealed_at_the_start(tmp_path: Path) -> None:
    database = Database(tmp_path / "bridge.sqlite")
    MlsDevice.open(DeviceStorage(database, ALICE), user_id=ALICE, device_id=DEVICE)
    (before,) = states(database)
    assert not has_secrets(database)
    puppets = opened(database, NEW)
    puppets.seal()
    (after,) = states(database)
    assert after.startswith(SEALED)
    assert has_secrets(database)
    assert unsealed_states(database) == []
    puppets.seal()
    assert states(database) == [after], "once is enough"
    sealed = SealedStorage(DeviceStorage(database, ALICE), key=NEW, owner=ALICE, random=bytes)
    assert sealed.load() == before
    assert opened(database, NEW).session(ALICE).device.owner.user_id == ALICE
    with pytest.raises(StateFileError):
        opened(database, b"o" * 32).session(ALICE)
    database.close()


def opened(database: Database, key: bytes) -> Puppets:
    """Clients that are opened and never used."""
    nobody: Any = Mock()
    return Puppets(
        nobody,
        database,
        bot="@_bridge:a.example",
        domain="matrix.example",
        key=key,
        random=secrets.token_bytes,
    )
