"""Looks for plaintexts in the bytes of a database."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path


def database_bytes(database: Path) -> bytes:
    """The database file with its write-ahead log, which holds the newest pages."""
    files = (database, database.with_name(database.name + "-wal"))
    return b"".join(file.read_bytes() for file in files if file.exists())


def found_in(data: bytes, texts: Iterable[str]) -> list[str]:
    """Those of ``texts`` that stand in ``data``, as UTF-8 or in JSON's escapes for what is not ASCII."""
    return [text for text in texts if text.encode() in data or json.dumps(text)[1:-1].encode() in data]
