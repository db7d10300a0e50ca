"""Provenance of the events that an MLS message leads to."""

from __future__ import annotations

import hashlib

from linearized.protocol.base64 import encode_base64url
from linearized.room.provenance import Provenance

MESSAGE = b"an MLSMessage"


def test_an_event_of_another_providers_user_names_the_provider_and_the_message() -> None:
    assert Provenance(MESSAGE, hub="a.example").of("@bob:b.example") == {
        "protocol": "mimi",
        "provider": "b.example",
        "mls": encode_base64url(hashlib.sha256(MESSAGE).digest()),
    }


def test_an_event_of_the_hubs_own_user_has_none() -> None:
    assert Provenance(MESSAGE, hub="a.example").of("@alice:a.example") is None
