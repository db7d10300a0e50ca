"""Looks for plaintexts in the bytes of what a provider keeps."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path


def kept_bytes(*places: Path) -> bytes:
    """Every file below the given directories, and the given files: databases with their write-ahead logs,
    media, program logs.
    """
    files = (file for place in places for file in (sorted(place.rglob("*")) if place.is_dir() else [place]))
    # A newline between two files keeps the end of one and the beginning of the next apart.
    return b"\n".join(file.read_bytes() for file in files if file.is_file())


def found_in(data: bytes, texts: Iterable[str]) -> list[str]:
    """Those of ``texts`` that stand in ``data``, as UTF-8 or in JSON's escapes for what is not ASCII."""
    return [text for text in texts if text.encode() in data or json.dumps(text)[1:-1].encode() in data]
