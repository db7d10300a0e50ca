"""Files that are whole or not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import BinaryIO


class WholeFile:
    """A file that is written in pieces, and is there once all of them are. Every method works on the disk.

    Args:
        path: where it is to be.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial: Path | None = None
        self._file: BinaryIO | None = None
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add to it."""
        self._opened().write(data)
        self.size += len(data)

    def finish(self) -> None:
        """Put it where it is to be, with everything that was written."""
        with self._opened() as file:
            file.flush()
            os.fsync(file.fileno())
        if self._partial is not None:
            self._partial.replace(self._path)

    def discard(self) -> None:
        """Leave nothing of it, unless it is finished."""
        if self._file is not None:
            self._file.close()
        if self._partial is not None:
            self._partial.unlink(missing_ok=True)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=".part-")
            self._partial = Path(name)
            self._file = open(descriptor, "wb")  # noqa: PTH123, SIM115 - a descriptor; closed in finish or discard
        return self._file


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is whole or not there, whatever happens meanwhile."""
    file = WholeFile(path)
    try:
        file.write(data)
        file.finish()
    except BaseException:
        file.discard()
        raise
