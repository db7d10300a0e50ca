"""Proofs of equivocation as files, and keys as they are given on a command line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from linearized.exceptions import ConfigError, InvalidInput
from linearized.protocol.base64 import decode_base64
from linearized.protocol.canonical import JsonObject, parse_json_object
from linearized.protocol.signing import KEY_BYTES
from linearized.room.checkpoint import MAX_CHECKPOINT_BYTES
from linearized.store.history import FindingRow

# Two checkpoints and a few names, each character perhaps escaped.
MAX_PROOF_BYTES: Final = 16 * MAX_CHECKPOINT_BYTES
_ED25519: Final = "ed25519:"
_NAME_DIGITS: Final = 16  # of the digest: enough to tell files apart


def parse_key(text: str) -> bytes:
    """A public key given as ``ed25519:`` and base64; the raw 32 bytes.

    Raises:
        ConfigError: it is not that.
    """
    try:
        key = decode_base64(text.removeprefix(_ED25519))
    except InvalidInput as error:
        raise ConfigError(f"--key: expected ed25519: and base64, not {text!r}") from error
    if not text.startswith(_ED25519) or len(key) != KEY_BYTES:
        raise ConfigError(f"--key: expected ed25519: and the base64 of {KEY_BYTES} bytes, not {text!r}")
    return key


def read_proof(path: Path) -> JsonObject:
    """The JSON object in a file, unchecked.

    Raises:
        ConfigError: the file cannot be read, or holds none.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PROOF_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_PROOF_BYTES:
        raise ConfigError(f"{path} is larger than any proof")
    try:
        return parse_json_object(data)
    except InvalidInput as error:
        raise ConfigError(f"{path} holds no proof: {error}") from error


def write_proofs(findings: Iterable[FindingRow], directory: Path) -> list[Path]:
    """Write each proof (not: suspicion) into a file of its own; the files.

    Raises:
        ConfigError: a file cannot be written.
    """
    written: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for found in findings:
            if found.proven:
                path = directory / f"proof-{found.digest[:_NAME_DIGITS]}.json"
                path.write_text(found.document + "\n", encoding="utf-8")
                written.append(path)
    except OSError as error:
        raise ConfigError(f"cannot write to {directory}: {error.strerror}") from error
    return written
