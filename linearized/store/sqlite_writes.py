"""What every family of writes shares: one writer, and what of its writes is kept in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TypeVar

from linearized.exceptions import StoreError
from linearized.store.base import NewToDevice
from linearized.store.sqlite_reader import ALL_TOKENS, Reader
from linearized.store.sqlite_writer import GroupWriter, Operation

# What a write of a device changes of the devices by token.
OF_DEVICES = (ALL_TOKENS,)

T = TypeVar("T")


class Writes(Reader):
    """Has operations done by the writer; without one, every write raises StoreError."""

    def __init__(self, reader: sqlite3.Connection, writer: GroupWriter | None) -> None:
        super().__init__(reader, alone=writer is not None)
        self._writer = writer

    def _writes(self) -> GroupWriter:
        if self._writer is None:
            raise StoreError("the database was opened read-only")
        return self._writer

    async def _write(
        self,
        operation: Operation[T],
        *,
        followed: Sequence[str] = (),
        to_device: Sequence[NewToDevice] = (),
        tokens: Sequence[str] = (),
        servers: Sequence[str] = (),
    ) -> T:
        """Have ``operation`` done, which writes followers of the rooms ``followed``, these messages, and keys
        of ``servers``; and devices, if ``tokens`` are ``OF_DEVICES``.
        """
        devices = [(message.user_id, message.device_id) for message in to_device]
        changes = (
            (self._followed, followed),
            (self._empty, devices),
            (self._tokens, tokens),
            (self._server_keys, servers),
        )
        return await self._writes().submit(operation, changes)
