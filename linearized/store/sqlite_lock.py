"""One server per database file.

SQLite itself would let two servers share the file, and both would believe to order the same rooms. The lock
is an advisory ``flock`` on a file beside the database: the kernel drops it when the process dies, however it
dies. (A lock on the database file itself would disturb SQLite, whose own locks vanish when any descriptor of
that file is closed.)
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from linearized.exceptions import StoreError

_PRIVATE = 0o600


class ServerLock:
    """Holds ``<database>.lock`` from construction to ``release``.

    Raises:
        StoreError: another process (or store object) holds it, or the file cannot be created.
    """

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + ".lock")
        try:
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, _PRIVATE)
        except OSError as error:
            raise StoreError(f"cannot create the lock file {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            self.release()
            raise StoreError(
                f"{database} is in use by another server (process {holder}); stop it first,"
                " or open the database read-only"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Give the lock up. The file stays: removing it would race with the next server taking it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
