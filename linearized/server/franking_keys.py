"""The hub's franking keys on disk: the secret ``hub_key`` and a signature key for each scheme.

Apart from the server's other keys, so that none of them signs two kinds of things. The file is a JSON object:
``hub_key`` and, by cipher suite, private keys, all unpadded base64.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import openmls
import orjson

from linearized.exceptions import ConfigError, InvalidInput
from linearized.mimi.franking import FrankingAgentData
from linearized.mimi.key_material import basic_credential
from linearized.mls import CIPHERSUITES
from linearized.protocol.base64 import decode_base64, encode_base64

KEY_FILE: Final = "franking.keys"
HUB_KEY_BYTES: Final = 32  # HMAC-SHA256: as long as its output
_PRIVATE: Final = stat.S_IRUSR | stat.S_IWUSR
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
# "The signature algorithm of the franking_signature_key is the same as the signature algorithm of cipher
# suite of the MLS group": the suite whose key each suite uses.
_SCHEME: Final = {
    openmls.CIPHERSUITE_X25519_CHACHA20POLY1305_SHA256_ED25519: (
        openmls.CIPHERSUITE_X25519_AES128GCM_SHA256_ED25519
    )
}
_SUITES: Final = tuple(CIPHERSUITES.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class FrankingKeys:
    """``hub_key`` recognises the hub's own stamps, ``signers`` (by cipher suite) prove them to others."""

    hub_key: bytes = field(repr=False)
    signers: Mapping[int, openmls.SignatureKeyPair] = field(repr=False)

    def agents(self, provider: str) -> Mapping[int, bytes]:
        """The encoded FrankingAgentData of ``provider``, whose keys these are, by cipher suite."""
        credential = basic_credential(f"mimi://{provider}".encode())
        return MappingProxyType(
            {
                suite: FrankingAgentData(
                    franking_signature_key=signer.public_key, credential=credential
                ).encode()
                for suite, signer in self.signers.items()
            }
        )


def load_franking_keys(data_dir: Path) -> FrankingKeys:
    """Read the keys, or make them (readable by us alone) the first time.

    Raises:
        ConfigError: the file is malformed, unreadable, or readable by others.
    """
    path = data_dir / KEY_FILE
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot create the franking keys: {error}") from error
    values = {"hub_key": encode_base64(secrets.token_bytes(HUB_KEY_BYTES))}
    for suite in _SUITES:
        if suite not in _SCHEME:
            pair = openmls.SignatureKeyPair.generate(ciphersuite=suite)
            values[str(suite)] = encode_base64(pair.to_bytes())
    with os.fdopen(handle, "wb") as file:
        file.write(orjson.dumps(values))
        file.flush()
        # A frank made with a key that a crash then loses is worth nothing.
        os.fsync(file.fileno())
    return _read(path)


def _read(path: Path) -> FrankingKeys:
    try:
        if path.stat().st_mode & _OTHERS:
            raise ConfigError(f"{path}: others can read the franking keys; chmod it to 600")
        values = orjson.loads(path.read_bytes())
        hub_key = _secret(values, "hub_key")
        if len(hub_key) != HUB_KEY_BYTES:
            raise ConfigError(f"{path}: hub_key must have {HUB_KEY_BYTES} bytes")
        signers = {suite: _signer(values, _SCHEME.get(suite, suite)) for suite in _SUITES}
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, InvalidInput, openmls.MlsError) as error:
        raise ConfigError(f"{path}: cannot use the franking keys: {type(error).__name__}") from error
    return FrankingKeys(hub_key=hub_key, signers=signers)


def _signer(values: Mapping[str, object], suite: int) -> openmls.SignatureKeyPair:
    return openmls.SignatureKeyPair.from_bytes(_secret(values, str(suite)), ciphersuite=suite)


def _secret(values: Mapping[str, object], name: str) -> bytes:
    text = values[name]
    if not isinstance(text, str):
        raise TypeError(name)
    return decode_base64(text)
