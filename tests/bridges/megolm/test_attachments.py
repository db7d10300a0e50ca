from __future__ import annotations

from typing import Any

import pytest

from bridges.matrix.megolm.attachments import open_file, seal_file
from linearized.client import UntrustedAnswer

PICTURE = b"\x89PNG not really"


def bytes_of(size: int) -> bytes:
    return bytes(range(255, 255 - size, -1))


def test_a_file_comes_back_as_it_was() -> None:
    sealed, file = seal_file(PICTURE, random=bytes_of)
    assert PICTURE not in sealed
    assert open_file(sealed, file) == PICTURE
    assert (file["v"], file["key"]["alg"], file["key"]["kty"]) == ("v2", "A256CTR", "oct")
    # The key is in the alphabet for URLs, and nothing is padded.
    assert not set("+/=") & set(file["key"]["k"])
    assert "=" not in file["iv"] + file["hashes"]["sha256"]


def test_a_file_encrypted_elsewhere_opens() -> None:
    """Made with `openssl enc -aes-256-ctr`: the key is 32 bytes of 1, the counter block 8 of 2 and 8 of 0."""
    file = {
        "v": "v2",
        "key": {"alg": "A256CTR", "k": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"},
        "iv": "AgICAgICAgIAAAAAAAAAAA",
        "hashes": {"sha256": "xvxSQ8nEMETi2JPWqm5Htk6HE6v1Ur2d1hAhXwa54uM"},
    }
    assert open_file(bytes.fromhex("f2bb68db3ae6db3789"), file) == b"a picture"


@pytest.mark.parametrize(
    "change",
    [
        {"v": "v1"},
        {"key": None},
        {"key": {"alg": "A128CTR", "k": "AAAA"}},
        {"key": {"alg": "A256CTR", "k": "AAAA"}},
        {"key": {"alg": "A256CTR", "k": 5}},
        {"iv": "AAAA"},
        {"iv": "A"},
        {"hashes": {}},
        {"hashes": None},
        {"hashes": {"sha256": "A" * 43}},
    ],
)
def test_another_file_or_key_is_refused(change: dict[str, Any]) -> None:
    sealed, file = seal_file(PICTURE, random=bytes_of)
    with pytest.raises(UntrustedAnswer):
        open_file(sealed, {**file, **change})
    with pytest.raises(UntrustedAnswer):
        open_file(sealed + b"x", file)
