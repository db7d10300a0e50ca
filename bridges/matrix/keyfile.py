"""The key under which every secret is kept in the database: MLS states, and the keys of encrypted rooms.

It is a file of its own, so that a copy of the database alone opens nothing. Whoever reads both has all.
"""

from __future__ import annotations

import os
from pathlib import Path

from linearized.exceptions import ConfigError

# What the library encrypts its keys with (AES-256).
KEY_BYTES = 32


def storage_key(path: Path, *, fresh: bytes, required: bool) -> bytes:
    """The key in the file; a file that is missing is made of ``fresh``, readable by its owner only.

    Args:
        fresh: 32 random bytes.
        required: the database holds something encrypted already, so a new key would be of no use.

    Raises:
        ConfigError: the file cannot be used, or is missing though it is ``required``.
    """
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        if required:
            raise ConfigError(f"bridge.storage_key_file: {path} is missing; restore it") from None
        return _write(path, fresh)
    except OSError as error:
        raise ConfigError(f"bridge.storage_key_file: cannot read {path}: {error}") from error
    if len(key) != KEY_BYTES:
        raise ConfigError(f"bridge.storage_key_file: {path} must hold {KEY_BYTES} bytes")
    return key


def _write(path: Path, key: bytes) -> bytes:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())  # what is encrypted with it may reach the disk right after
    return key
