"""Where a device's state lives between runs.

The state holds the device's private keys and decrypted messages not yet handed over. ``FileStorage`` keeps
it readable by its owner only; whoever needs more encrypts the disk.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from linearized.client.errors import StateFileError

_OWNER_ONLY = 0o600


class StateStorage(Protocol):
    """Keeps one blob. ``save`` is durable on return and all or nothing."""

    def load(self) -> bytes | None:
        """The blob saved last, or ``None``."""
        ...

    def save(self, data: bytes) -> None:
        """Replace the blob."""
        ...


class MemoryStorage:
    """Keeps the blob in memory: for tests and throw-away devices."""

    def __init__(self, data: bytes | None = None) -> None:
        self.data = data

    def load(self) -> bytes | None:
        """As ``StateStorage``."""
        return self.data

    def save(self, data: bytes) -> None:
        """As ``StateStorage``."""
        self.data = data


class FileStorage:
    """Keeps the blob in a file, replaced atomically, mode 0600, and locked against a second process.

    Two processes that continue from one MLS state would encrypt different messages with the same key and
    nonce, so the lock is not a convenience. Use it as a context manager or call ``close``.

    Raises:
        StateFileError: another process holds the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, _OWNER_ONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise StateFileError(f"{path} is in use by another process") from error

    def load(self) -> bytes | None:
        """As ``StateStorage``."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:  # the first start
            return None

    def save(self, data: bytes) -> None:
        """As ``StateStorage``: write beside, flush, rename, flush the directory."""
        beside = self._path.with_name(self._path.name + ".new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OWNER_ONLY)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def close(self) -> None:
        """Give up the lock."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
