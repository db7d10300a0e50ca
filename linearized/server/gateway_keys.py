"""The keys of our oblivious gateway on disk (RFC 9458): the present one, and the one before.

``ohttp.keys`` has one line for each, the present one first: ``<key identifier> <unpadded base64 secret>``.
After a rotation the key before still opens what was sealed to it; the next rotation drops it.
"""

from __future__ import annotations

import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from linearized.exceptions import ConfigError, InvalidInput
from linearized.mimi.ohttp import KEY_BYTES, GatewayKey
from linearized.own_keys import write_private
from linearized.protocol.base64 import decode_base64, encode_base64

KEY_FILE: Final = "ohttp.keys"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_IDENTIFIERS: Final = 256  # a key identifier has one octet
_FIELDS: Final = 2
_KEPT: Final = 2  # the present one and the one before


def load_gateway_keys(data_dir: Path) -> tuple[GatewayKey, ...]:
    """Read the keys, the present one first, or make the first one (readable by us alone).

    Raises:
        ConfigError: the file is malformed, unreadable, or readable by others.
    """
    path = data_dir / KEY_FILE
    try:
        if path.exists():
            return _read(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot use the oblivious gateway's keys: {error}") from error
    keys = (_new_key(secrets.randbelow(_IDENTIFIERS)),)
    write_private(path, _lines(keys))
    return keys


def rotate_gateway_keys(data_dir: Path) -> GatewayKey:
    """Make a new key beside the present one, and drop those before. The server must not be running.

    Raises:
        ConfigError: as for ``load_gateway_keys``, or the file cannot be written.
    """
    present = load_gateway_keys(data_dir)[0]
    new = _new_key((present.key_id + 1) % _IDENTIFIERS)
    write_private(data_dir / KEY_FILE, _lines((new, present)))
    return new


def _new_key(key_id: int) -> GatewayKey:
    return GatewayKey(key_id=key_id, secret=secrets.token_bytes(KEY_BYTES))


def _lines(keys: Sequence[GatewayKey]) -> str:
    return "".join(f"{key.key_id} {encode_base64(key.secret)}\n" for key in keys)


def _read(path: Path) -> tuple[GatewayKey, ...]:
    if path.stat().st_mode & _OTHERS:
        raise ConfigError(f"{path}: others can read the oblivious gateway's keys; chmod it to 600")
    try:
        keys = tuple(_parse(line) for line in path.read_text(encoding="ascii").splitlines())
    except (UnicodeDecodeError, ValueError, InvalidInput) as error:
        raise ConfigError(f"{path}: expected '<number> <base64 secret>' on each line") from error
    if not 0 < len(keys) <= _KEPT or len({key.key_id for key in keys}) != len(keys):
        raise ConfigError(f"{path}: expected one or two keys with different numbers")
    return keys


def _parse(line: str) -> GatewayKey:
    parts = line.split()
    if len(parts) != _FIELDS or not parts[0].isdecimal() or int(parts[0]) >= _IDENTIFIERS:
        raise ValueError(line)
    secret = decode_base64(parts[1])
    if len(secret) != KEY_BYTES:
        raise ValueError(line)
    return GatewayKey(key_id=int(parts[0]), secret=secret)
