"""Accounts in SQLite: users, devices, messages to devices, replies, remote servers' keys, media records."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from linearized.store.base import (
    DeviceRow,
    MediaRow,
    NewToDevice,
    Reply,
    ServerKeyRow,
    ToDeviceRow,
    UserRow,
)
from linearized.store.sqlite_reader import ALL_TOKENS, MAX_KNOWN_TOKENS, Reader
from linearized.store.sqlite_writer import Transaction
from linearized.store.sqlite_writes import OF_DEVICES, Writes

# Contents as large as a database page are stored once if several messages have them; smaller ones would gain
# nothing. A Welcome into a group of a thousand has, with its tree, 300 KB.
SHARED_BYTES: Final = 4096
_DEVICES: Final = (
    "SELECT user_id, device_id, display_name, token_hash, expires_ts, refresh_hash, spent_refresh_hash,"
    " spent_token_hash FROM devices"
)


class DeviceReads(Reader):
    """Reads about local accounts and what is kept for them."""

    def reply(self, scope: str, key: str) -> str | None:
        """The remembered answer, or None."""
        rows = self._query("SELECT value FROM replies WHERE scope = ? AND key = ?", scope, key)
        return rows[0][0] if rows else None

    def replies(self, scope: str, keys: Sequence[str]) -> dict[str, str]:
        """The remembered answers among ``keys``."""
        if len(keys) == 1:  # nearly always
            value = self.reply(scope, keys[0])
            return {} if value is None else {keys[0]: value}
        return dict(
            self._query(
                "SELECT key, value FROM replies WHERE scope = ? AND key IN (SELECT value FROM json_each(?))",
                scope,
                json.dumps(list(keys)),
            )
        )

    def user(self, user_id: str) -> UserRow | None:
        """The account, or None."""
        for password_hash, created_ts in self._query(
            "SELECT password_hash, created_ts FROM users WHERE user_id = ?", user_id
        ):
            return UserRow(user_id=user_id, password_hash=password_hash, created_ts=created_ts)
        return None

    def devices(self, user_id: str) -> list[DeviceRow]:
        """The user's devices, by device ID."""
        rows = self._query(f"{_DEVICES} WHERE user_id = ? ORDER BY device_id", user_id)
        return [_device(row) for row in rows]

    def device_objects(self, user_id: str) -> dict[str, bytes]:
        """What the user's devices say of themselves, by device ID."""
        return dict(
            self._query(
                "SELECT device_id, value FROM device_objects WHERE user_id = ? ORDER BY device_id", user_id
            )
        )

    def device_by_token(self, token_hash: str) -> DeviceRow | None:
        """The device whose access token has this SHA-256 (hex), or None."""
        known = self._tokens.get(ALL_TOKENS)
        device = None if known is None else known.get(token_hash)
        if device is None and (rows := self._query(f"{_DEVICES} WHERE token_hash = ?", token_hash)):
            device = _device(rows[0])
            if known is None or len(known) >= MAX_KNOWN_TOKENS:
                known = {}
            known[token_hash] = device
            self._tokens.keep(ALL_TOKENS, known)
        return device

    def device_by_refresh(self, refresh_hash: str) -> DeviceRow | None:
        """The device whose refresh token, the present one or the one before, has this hash, or None."""
        rows = self._query(f"{_DEVICES} WHERE refresh_hash = ?1 OR spent_refresh_hash = ?1", refresh_hash)
        return _device(rows[0]) if rows else None

    def device_by_spent_token(self, token_hash: str) -> DeviceRow | None:
        """The device whose access token before the present one has this hash, or None."""
        rows = self._query(f"{_DEVICES} WHERE spent_token_hash = ?", token_hash)
        return _device(rows[0]) if rows else None

    def to_device(self, user_id: str, device_id: str, *, after: int, limit: int) -> list[ToDeviceRow]:
        """Messages waiting for the device with ``position > after``, oldest first, at most ``limit``."""
        if self._empty.get((user_id, device_id)):
            return []
        rows = self._query(
            "SELECT position, type, sender, coalesce(c.content, m.content) FROM to_device m"
            " LEFT JOIN to_device_contents c ON c.number = m.shared"
            " WHERE user_id = ? AND device_id = ? AND position > ? ORDER BY position LIMIT ?",
            user_id,
            device_id,
            after,
            max(limit, 0),
        )
        if not rows and after <= 0 < limit:
            self._empty.keep((user_id, device_id), True)
        return [
            ToDeviceRow(
                position=position,
                user_id=user_id,
                device_id=device_id,
                type=type_,
                sender=sender,
                content=content,
            )
            for position, type_, sender, content in rows
        ]

    def to_device_from(self, user_id: str, device_id: str, server: str) -> tuple[int, int]:
        """How many messages from users of a server wait for the device, and the bytes of their contents."""
        if self._empty.get((user_id, device_id)):
            return 0, 0
        domain = f":{server}"
        rows = self._query(
            "SELECT count(*), total(length(coalesce(c.content, m.content))) FROM to_device m"
            " LEFT JOIN to_device_contents c ON c.number = m.shared"
            " WHERE user_id = ? AND device_id = ? AND substr(sender, ?) = ?",
            user_id,
            device_id,
            -len(domain),
            domain,
        )
        count, size = rows[0]
        return count, int(size)

    def to_device_addresses(self, device_id: str) -> list[str]:
        """The users for whose device of this name messages are waiting, in order; reads the whole queue."""
        rows = self._query(
            "SELECT DISTINCT user_id FROM to_device WHERE device_id = ? ORDER BY user_id", device_id
        )
        return [user_id for (user_id,) in rows]

    def to_device_position(self) -> int:
        """The position of the newest message ever stored, delivered or not."""
        rows = self._query("SELECT seq FROM sqlite_sequence WHERE name = 'to_device'")
        return rows[0][0] if rows else 0

    def server_keys(self, server_name: str) -> list[ServerKeyRow]:
        """The server's keys as last seen, by key ID."""
        known = self._server_keys.get(server_name)
        if known is not None:
            return list(known)
        rows = self._query(
            "SELECT key_id, key, valid_until_ts, expired_ts FROM server_keys"
            " WHERE server_name = ? ORDER BY key_id",
            server_name,
        )
        found = [
            ServerKeyRow(
                server_name=server_name,
                key_id=key_id,
                key=key,
                valid_until_ts=valid_until_ts,
                expired_ts=expired_ts,
            )
            for key_id, key, valid_until_ts, expired_ts in rows
        ]
        self._server_keys.keep(server_name, found)
        return list(found)

    def media(self, media_id: str) -> MediaRow | None:
        """The uploaded file's record, or None."""
        for uploader, content_type, filename, size, created_ts in self._query(
            "SELECT uploader, content_type, filename, size, created_ts FROM media WHERE media_id = ?",
            media_id,
        ):
            return MediaRow(
                media_id=media_id,
                uploader=uploader,
                content_type=content_type,
                filename=filename,
                size=size,
                created_ts=created_ts,
            )
        return None


def _device(row: tuple[Any, ...]) -> DeviceRow:
    user_id, device_id, display_name, token_hash, expires_ts, refresh_hash, spent_refresh, spent_token = row
    return DeviceRow(
        user_id=user_id,
        device_id=device_id,
        display_name=display_name,
        token_hash=token_hash,
        expires_ts=expires_ts,
        refresh_hash=refresh_hash,
        spent_refresh_hash=spent_refresh,
        spent_token_hash=spent_token,
    )


def insert_reply(transaction: Transaction, reply: Reply) -> bool:
    """Remember a reply unless one is remembered already, which stays if this is not replacing. True if this
    one stands now.
    """
    return insert_replies(transaction, (reply,)) > 0


def insert_replies(transaction: Transaction, replies: Sequence[Reply]) -> int:
    """The same for several; how many of them stand now."""
    inserted = transaction.connection.executemany(
        "INSERT INTO replies (scope, key, value, day)"
        " VALUES (?, ?, ?, CASE WHEN ? THEN NULL ELSE (SELECT day FROM reply_day) END)"
        " ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value WHERE ?",
        [(reply.scope, reply.key, reply.value, reply.lasting, reply.replacing) for reply in replies],
    )
    return inserted.rowcount


def insert_to_device(transaction: Transaction, messages: Sequence[NewToDevice]) -> None:
    """Store messages, in order; a large content that several have, once."""
    times = Counter(message.content for message in messages if len(message.content) >= SHARED_BYTES)
    shared: dict[bytes, int | None] = {}
    for message in messages:
        content, number = message.content, None
        if times[content] > 1:
            if content not in shared:
                shared[content] = transaction.connection.execute(
                    "INSERT INTO to_device_contents (content) VALUES (?)", (content,)
                ).lastrowid
            content, number = b"", shared[content]
        transaction.connection.execute(
            "INSERT INTO to_device (user_id, device_id, type, sender, content, shared)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (message.user_id, message.device_id, message.type, message.sender, content, number),
        )


def put_to_device(transaction: Transaction, messages: Sequence[NewToDevice], reply: Reply | None) -> None:
    """Store messages; if ``reply`` is remembered already, the request is a repetition and stores nothing."""
    if reply is None or insert_reply(transaction, reply):
        insert_to_device(transaction, messages)


def delete_to_device(transaction: Transaction, user_id: str, device_id: str, up_to: int) -> None:
    """Forget messages with ``position <= up_to``."""
    transaction.connection.execute(
        "DELETE FROM to_device WHERE user_id = ? AND device_id = ? AND position <= ?",
        (user_id, device_id, up_to),
    )


def put_user(transaction: Transaction, user: UserRow) -> bool:
    """Create an account; False if it exists (it is not changed)."""
    inserted = transaction.connection.execute(
        "INSERT INTO users (user_id, password_hash, created_ts) VALUES (?, ?, ?)"
        " ON CONFLICT (user_id) DO NOTHING",
        (user.user_id, user.password_hash, user.created_ts),
    )
    return inserted.rowcount > 0


def put_device(transaction: Transaction, device: DeviceRow) -> None:
    """Insert or replace a device. Another device's access token is refused."""
    transaction.connection.execute(
        "INSERT INTO devices (user_id, device_id, display_name, token_hash, expires_ts, refresh_hash,"
        " spent_refresh_hash, spent_token_hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (user_id, device_id) DO UPDATE"
        " SET display_name = excluded.display_name, token_hash = excluded.token_hash,"
        " expires_ts = excluded.expires_ts, refresh_hash = excluded.refresh_hash,"
        " spent_refresh_hash = excluded.spent_refresh_hash, spent_token_hash = excluded.spent_token_hash",
        (
            device.user_id,
            device.device_id,
            device.display_name,
            device.token_hash,
            device.expires_ts,
            device.refresh_hash,
            device.spent_refresh_hash,
            device.spent_token_hash,
        ),
    )


def delete_device(transaction: Transaction, user_id: str, device_id: str) -> None:
    """Forget a device, what it says of itself, its key packages and the messages waiting for it."""
    for statement in (
        "DELETE FROM device_objects WHERE user_id = ? AND device_id = ?",
        "DELETE FROM devices WHERE user_id = ? AND device_id = ?",
        "DELETE FROM key_packages WHERE user_id = ? AND device_id = ?",
        "DELETE FROM to_device WHERE user_id = ? AND device_id = ?",
    ):
        transaction.connection.execute(statement, (user_id, device_id))


def put_device_object(transaction: Transaction, user_id: str, device_id: str, value: bytes) -> None:
    """Insert or replace what a device says of itself."""
    transaction.connection.execute(
        "INSERT OR REPLACE INTO device_objects (user_id, device_id, value) VALUES (?, ?, ?)",
        (user_id, device_id, value),
    )


def delete_device_objects(transaction: Transaction, user_id: str, device_ids: Sequence[str]) -> None:
    """Forget what devices say of themselves."""
    transaction.connection.executemany(
        "DELETE FROM device_objects WHERE user_id = ? AND device_id = ?",
        [(user_id, device_id) for device_id in device_ids],
    )


def put_server_keys(transaction: Transaction, keys: Sequence[ServerKeyRow]) -> None:
    """Insert or replace keys."""
    transaction.connection.executemany(
        "INSERT OR REPLACE INTO server_keys (server_name, key_id, key, valid_until_ts, expired_ts)"
        " VALUES (?, ?, ?, ?, ?)",
        [(key.server_name, key.key_id, key.key, key.valid_until_ts, key.expired_ts) for key in keys],
    )


def put_media(transaction: Transaction, media: MediaRow) -> None:
    """Record an uploaded file. A media ID that exists is refused."""
    transaction.connection.execute(
        "INSERT INTO media (media_id, uploader, content_type, filename, size, created_ts)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (media.media_id, media.uploader, media.content_type, media.filename, media.size, media.created_ts),
    )


class DeviceWrites(Writes):
    """The writes of this module, each durable when it returns."""

    async def put_user(self, user: UserRow) -> bool:
        """Create an account; False if it exists."""
        return await self._write(partial(put_user, user=user))

    async def put_device(self, device: DeviceRow) -> None:
        """Insert or replace a device."""
        await self._write(partial(put_device, device=device), tokens=OF_DEVICES)

    async def delete_device(self, user_id: str, device_id: str) -> None:
        """Forget a device, its key packages and its messages."""
        operation = partial(delete_device, user_id=user_id, device_id=device_id)
        await self._write(operation, tokens=OF_DEVICES)

    async def put_to_device(self, messages: Sequence[NewToDevice], reply: Reply | None = None) -> None:
        """Store messages with the reply to their request; nothing if that reply is remembered already."""
        operation = partial(put_to_device, messages=messages, reply=reply)
        await self._write(operation, to_device=messages)

    async def delete_to_device(self, user_id: str, device_id: str, up_to: int) -> None:
        """Forget the device's messages with ``position <= up_to``."""
        await self._write(partial(delete_to_device, user_id=user_id, device_id=device_id, up_to=up_to))

    async def put_device_object(self, user_id: str, device_id: str, value: bytes) -> None:
        """Insert or replace what a device says of itself."""
        await self._write(partial(put_device_object, user_id=user_id, device_id=device_id, value=value))

    async def delete_device_objects(self, user_id: str, device_ids: Sequence[str]) -> None:
        """Forget what devices say of themselves."""
        await self._write(partial(delete_device_objects, user_id=user_id, device_ids=device_ids))

    async def put_reply(self, reply: Reply) -> None:
        """Remember a reply; the first one for its scope and key stays."""
        await self._write(partial(insert_reply, reply=reply))

    async def put_server_keys(self, keys: Sequence[ServerKeyRow]) -> None:
        """Insert or replace remote servers' keys."""
        operation = partial(put_server_keys, keys=keys)
        await self._write(operation, servers=[key.server_name for key in keys])

    async def put_media(self, media: MediaRow) -> None:
        """Record an uploaded file; StoreError if its ID exists."""
        await self._write(partial(put_media, media=media))
