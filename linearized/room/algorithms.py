"""Names of encryption algorithms, as rooms, messages and Welcomes carry them (draft, MLS Considerations)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from linearized.protocol.canonical import JsonObject

_ROOM: Final = "m.mls.v1."
_WELCOME: Final = "m.mls.v1.welcome."
_KEY_PACKAGE: Final = "m.mls.v1.key_package."

# "the remainder of the algorithm string covering the exact ciphersuite … Other ciphersuites can be
# represented similarly". Those of RFC 9420, section 17.1, that the hub's MLS implementation has.
_SUITES: Mapping[str, int] = MappingProxyType(
    {
        "dhkemx25519-aes128gcm-sha256-ed25519": 1,
        "dhkemp256-aes128gcm-sha256-p256": 2,
        "dhkemx25519-chacha20poly1305-sha256-ed25519": 3,
        "dhkemp384-aes256gcm-sha384-p384": 7,
    }
)
_NAMES: Mapping[int, str] = MappingProxyType({number: name for name, number in _SUITES.items()})

DEFAULT_ALGORITHM: Final = _ROOM + _NAMES[1]
"""The one every implementation has."""

_ED25519: Final = frozenset(number for number, name in _NAMES.items() if name.endswith("-ed25519"))


def signs_with_ed25519(ciphersuite: int) -> bool:
    """Whether the signature keys of a cipher suite's leaves are of Ed25519."""
    return ciphersuite in _ED25519


def ciphersuite_of(algorithm: str) -> int | None:
    """The number of a room algorithm's cipher suite; None for an algorithm that is not one of ours."""
    return _SUITES.get(algorithm.removeprefix(_ROOM)) if algorithm.startswith(_ROOM) else None


def welcome_algorithm(ciphersuite: int) -> str:
    """What the algorithm of a Welcome in a room of this cipher suite is called.

    Raises:
        KeyError: the suite is none of those rooms can have.
    """
    return _WELCOME + _NAMES[ciphersuite]


def key_package_algorithm(ciphersuite: int) -> str:
    """What the algorithm of a key package of this cipher suite is called (One Time Key Claiming).

    Raises:
        KeyError: the suite is none of those rooms can have.
    """
    return _KEY_PACKAGE + _NAMES[ciphersuite]


def ciphersuite_of_key_package(algorithm: str) -> int | None:
    """The number of a key package algorithm's cipher suite; None for an algorithm that is not one of ours."""
    return _SUITES.get(algorithm.removeprefix(_KEY_PACKAGE)) if algorithm.startswith(_KEY_PACKAGE) else None


def welcome_content(*, ciphersuite: int, ciphertext: str, commit_event_id: str) -> JsonObject:
    """The ``message`` of the to-device message with a Welcome (Updating Group State): "All fields MUST be
    supplied."

    Args:
        ciphertext: the MLSMessage with the Welcome, unpadded base64.
        commit_event_id: of the ``m.mls.commit`` it came with.
    """
    return {
        "algorithm": welcome_algorithm(ciphersuite),
        "ciphertext": ciphertext,
        "commit_event_id": commit_event_id,
    }
