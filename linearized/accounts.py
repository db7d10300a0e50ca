"""Accounts made by the operator, straight in the database of a server that is not running."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import trio

from linearized.config import Config
from linearized.exceptions import ConfigError
from linearized.protocol.identifiers import hub_user, is_new_user_id
from linearized.server.clients.passwords import MAX_PASSWORD, SALT_BYTES, hash_password
from linearized.store.base import UserRow
from linearized.store.sqlite import SqliteStore

# Below this a password can be guessed at the login endpoint's own pace.
MIN_PASSWORD = 8


def create_account(config: Config, database: Path, localpart: str, password: str) -> str:
    """Create the account and give its user ID.

    Raises:
        ConfigError: the name or the password does not do, or the account exists.
        StoreError: the database is in use by a running server.
    """
    user_id = f"@{localpart}:{config.server_name}"
    if not is_new_user_id(user_id) or user_id == hub_user(config.server_name):
        raise ConfigError(f"{localpart!r} cannot be a user name: use a-z, 0-9 and . = _ / + -")
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise ConfigError(f"the password must have {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    row = UserRow(
        user_id=user_id,
        password_hash=hash_password(password, salt=secrets.token_bytes(SALT_BYTES)),
        created_ts=int(time.time() * 1000),
    )
    if not trio.run(_put, database, row):
        raise ConfigError(f"{user_id} exists")
    return user_id


async def _put(database: Path, row: UserRow) -> bool:
    store = SqliteStore.open(database)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        try:
            return await store.put_user(row)
        finally:
            await store.aclose()
