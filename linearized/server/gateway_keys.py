"""The keys of our oblivious gateway on disk (RFC 9458): the present one, and the one before.

``ohttp.keys`` has one line for each, the present one first: ``<key identifier> <unpadded base64 secret>
<time>``, in milliseconds since the Unix epoch: of the present one when it was made, of the one before until
when it opens what was sealed to it. A file of an earlier version has no times; they begin when it is first
looked at.
"""

from __future__ import annotations

import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from linearized.exceptions import ConfigError, InvalidInput
from linearized.mimi.ohttp import KEY_BYTES, GatewayKey
from linearized.own_keys import write_private
from linearized.protocol.base64 import decode_base64, encode_base64

KEY_FILE: Final = "ohttp.keys"
ADVERTISED_SECONDS: Final = 24 * 3600
"""How long whoever fetched our key configurations may go on using them; said with each answer."""
OVERLAP_MS: Final = (ADVERTISED_SECONDS + 3600) * 1000
"""How long a key opens requests after the next one was made: until the last that was told of it uses it no
more, and an hour for requests on their way and for clocks."""
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_IDENTIFIERS: Final = 256  # a key identifier has one octet
_FIELDS: Final = 2
_KEPT: Final = 2  # the present one and the one before


@dataclass(frozen=True, slots=True)
class _Line:
    key: GatewayKey
    time: int | None


def load_gateway_keys(data_dir: Path) -> tuple[GatewayKey, ...]:
    """Read the keys, the present one first, or make the first one (readable by us alone).

    Raises:
        ConfigError: the file is malformed, unreadable, or readable by others.
    """
    return _keys(_load(data_dir))


def rotate_gateway_keys(data_dir: Path, *, now_ms: int) -> GatewayKey:
    """Make a new key beside the present one, and drop those before. The server must not be running.

    Raises:
        ConfigError: as for ``load_gateway_keys``, or the file cannot be written.
    """
    return _rotated(data_dir, _load(data_dir)[0], now_ms)[0].key


def turn_gateway_keys(data_dir: Path, *, now_ms: int, period_ms: int) -> tuple[GatewayKey, ...] | None:
    """Do what has become due: a new key when the present one is as old as ``period_ms``, and no key before it
    once its time is over. The keys, the present one first; None if nothing was due.

    Raises:
        ConfigError: as for ``rotate_gateway_keys``.
    """
    present, *before = lines = _load(data_dir)
    if present.time is not None and now_ms >= present.time + period_ms:
        return _keys(_rotated(data_dir, present, now_ms))
    kept = [line for line in before if line.time is None or now_ms < line.time]
    timed = [replace(present, time=now_ms if present.time is None else present.time)]
    timed += [replace(line, time=now_ms + OVERLAP_MS if line.time is None else line.time) for line in kept]
    if timed == list(lines):
        return None
    write_private(data_dir / KEY_FILE, _text(timed))
    return _keys(timed)


def _load(data_dir: Path) -> tuple[_Line, ...]:
    path = data_dir / KEY_FILE
    try:
        if path.exists():
            return _read(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot use the oblivious gateway's keys: {error}") from error
    lines = (_Line(_new_key(secrets.randbelow(_IDENTIFIERS)), None),)
    write_private(path, _text(lines))
    return lines


def _rotated(data_dir: Path, present: _Line, now_ms: int) -> tuple[_Line, ...]:
    new = _Line(_new_key((present.key.key_id + 1) % _IDENTIFIERS), now_ms)
    lines = (new, replace(present, time=now_ms + OVERLAP_MS))
    write_private(data_dir / KEY_FILE, _text(lines))
    return lines


def _keys(lines: Sequence[_Line]) -> tuple[GatewayKey, ...]:
    return tuple(line.key for line in lines)


def _new_key(key_id: int) -> GatewayKey:
    return GatewayKey(key_id=key_id, secret=secrets.token_bytes(KEY_BYTES))


def _text(lines: Sequence[_Line]) -> str:
    return "".join(
        f"{line.key.key_id} {encode_base64(line.key.secret)}{'' if line.time is None else f' {line.time}'}\n"
        for line in lines
    )


def _read(path: Path) -> tuple[_Line, ...]:
    if path.stat().st_mode & _OTHERS:
        raise ConfigError(f"{path}: others can read the oblivious gateway's keys; chmod it to 600")
    try:
        lines = tuple(_parse(line) for line in path.read_text(encoding="ascii").splitlines())
    except (UnicodeDecodeError, ValueError, InvalidInput) as error:
        raise ConfigError(f"{path}: expected '<number> <base64 secret> <time>' on each line") from error
    if not 0 < len(lines) <= _KEPT or len({line.key.key_id for line in lines}) != len(lines):
        raise ConfigError(f"{path}: expected one or two keys with different numbers")
    return lines


def _parse(line: str) -> _Line:
    parts = line.split()
    numbers = [parts[0], *parts[_FIELDS:]] if len(parts) in {_FIELDS, _FIELDS + 1} else [""]
    if not all(number.isdecimal() for number in numbers) or int(numbers[0]) >= _IDENTIFIERS:
        raise ValueError(line)
    secret = decode_base64(parts[1])
    if len(secret) != KEY_BYTES:
        raise ValueError(line)
    time = int(parts[_FIELDS]) if len(parts) > _FIELDS else None
    return _Line(GatewayKey(key_id=int(parts[0]), secret=secret), time)
