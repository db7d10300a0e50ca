"""Our own signing keys on disk: the one we sign with, and the public halves of those we signed with before.

``signing.key`` has one line in signedjson's format. ``retired.keys`` has one line for each key that was
rotated out: ``ed25519 <version> <unpadded base64 public key> <when it ceased, milliseconds>``. The secret
half of a retired key is gone; its public half is published as an old key, so that what it signed stays
verifiable.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from linearized.exceptions import ConfigError, InvalidInput
from linearized.protocol.base64 import decode_base64, encode_base64
from linearized.protocol.signing import KEY_BYTES, RetiredKey, ServerIdentity, SigningKey

KEY_FILE = "signing.key"
RETIRED_FILE = "retired.keys"
_SEED_BYTES = 32
_VERSION_BYTES = 3
_PRIVATE = stat.S_IRUSR | stat.S_IWUSR
_FIELDS = 4  # of a line of RETIRED_FILE


def load_identity(server_name: str, data_dir: Path) -> ServerIdentity:
    """Who we are: our name, our signing key (made the first time), and our retired keys.

    Raises:
        ConfigError: a file is malformed, unreadable, or the secret one readable by others.
    """
    return ServerIdentity(
        name=server_name, key=load_signing_key(data_dir), retired=load_retired_keys(data_dir)
    )


def load_signing_key(data_dir: Path) -> SigningKey:
    """Read our signing key, or make one (readable by us alone) the first time.

    Raises:
        ConfigError: the file is malformed, unreadable, or readable by others.
    """
    path = data_dir / KEY_FILE
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    except FileExistsError:
        return _read_signing_key(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot create the signing key: {error}") from error
    key = _new_key()
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(key.to_line() + "\n")
    return key


def load_retired_keys(data_dir: Path) -> tuple[RetiredKey, ...]:
    """The keys we signed with before; none if there never was a rotation.

    Raises:
        ConfigError: the file is malformed or unreadable.
    """
    path = data_dir / RETIRED_FILE
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the retired keys: {error}") from error
    return tuple(_parse_retired(path, line) for line in text.splitlines())


def rotate(data_dir: Path, *, now: int) -> tuple[SigningKey, RetiredKey]:
    """Make a new signing key and retire the present one; both. The server must not be running.

    A crash in between leaves the present key in use, and a rotation that is done again.

    Args:
        now: when the present key ceases, milliseconds since the Unix epoch.

    Raises:
        ConfigError: there is no key to rotate, or a file cannot be read or written.
    """
    path = data_dir / KEY_FILE
    present = _read_signing_key(path)
    retiring = RetiredKey(key_id=present.key_id, verify_key=present.verify_key, expired_ts=now)
    others = [key for key in load_retired_keys(data_dir) if key.key_id != present.key_id]
    taken = {present.key_id, *(key.key_id for key in others)}
    new = _new_key()
    while new.key_id in taken:
        new = _new_key()
    write_private(data_dir / RETIRED_FILE, "".join(_retired_line(key) for key in (*others, retiring)))
    write_private(path, new.to_line() + "\n")
    return new, retiring


def _new_key() -> SigningKey:
    return SigningKey.generate(secrets.token_hex(_VERSION_BYTES), secrets.token_bytes(_SEED_BYTES))


def _read_signing_key(path: Path) -> SigningKey:
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(f"{path}: others can read the signing key; chmod it to 600")
        return SigningKey.parse(path.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the signing key: {error}") from error


def _retired_line(key: RetiredKey) -> str:
    return f"ed25519 {key.key_id.partition(':')[2]} {encode_base64(key.verify_key)} {key.expired_ts}\n"


def _parse_retired(path: Path, line: str) -> RetiredKey:
    parts = line.split()
    try:
        if len(parts) == _FIELDS and parts[0] == "ed25519" and parts[3].isdecimal():
            key = decode_base64(parts[2])
            if len(key) == KEY_BYTES:
                return RetiredKey(key_id=f"ed25519:{parts[1]}", verify_key=key, expired_ts=int(parts[3]))
    except InvalidInput:
        pass  # no base64: as malformed as anything else
    raise ConfigError(f"{path}: expected 'ed25519 <version> <base64 public key> <milliseconds>' on each line")


def write_private(path: Path, text: str) -> None:
    """Put a file that we alone may read in its place whole, or leave what was there.

    Raises:
        ConfigError: it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigError(f"{path}: cannot write it: {error}") from error
