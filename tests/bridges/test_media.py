from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from bridges.matrix.content import OPAQUE, safe_type
from bridges.matrix.media import download_url, file_of, open_part, seal
from linearized.client import UntrustedAnswer
from linearized.mimi.content import ExternalPart

KEY, NONCE = b"k" * 16, b"n" * 12
SEALED = seal(b"the picture", key=KEY, nonce=NONCE)
PART = ExternalPart(
    content_type="image/png",
    url=download_url("mxc://a.example/abc"),
    enc_alg=1,
    key=KEY,
    nonce=NONCE,
    content_hash=sha256(SEALED).digest(),
)


def test_a_file_comes_back_as_it_was() -> None:
    assert b"picture" not in SEALED
    assert open_part(SEALED, PART) == b"the picture"
    assert open_part(b"x", ExternalPart(content_type="a/b", url="x")) == b"x"


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (SEALED[:-1] + b"x", PART),
        (SEALED[:-1] + b"x", replace(PART, content_hash=b"")),
        (SEALED, replace(PART, key=b"x" * 16)),
        (SEALED, replace(PART, key=b"short")),
        (SEALED, replace(PART, nonce=b"x" * 12)),
        (SEALED, replace(PART, aad=b"x")),
        (SEALED, replace(PART, enc_alg=30)),
        (SEALED, replace(PART, hash_alg=8)),
    ],
)
def test_another_file_or_key_is_refused(data: bytes, part: ExternalPart) -> None:
    with pytest.raises(UntrustedAnswer):
        open_part(data, part)


def test_a_file_is_asked_for_at_its_provider_and_nowhere_else() -> None:
    assert file_of(PART.url) == ("a.example", "abc")
    assert file_of("mxc://b.example/xyz") == ("b.example", "xyz")
    for url in (
        "http://127.0.0.1/secret",
        "https://a.example/other",
        "https://evil.example/_matrix/client/v1/media/download/a.example/abc",
        "https://a.example/_matrix/client/v1/media/download/a.example/../../x",
        "file:///etc/passwd",
    ):
        with pytest.raises(UntrustedAnswer):
            file_of(url)


@pytest.mark.parametrize(
    ("claimed", "taken"),
    [
        ("image/png", "image/png"),
        ("text/plain; charset=utf-8", "text/plain"),
        ("image/svg+xml", "image/svg+xml"),
        ("image/png\r\nX-Evil: 1", OPAQUE),
        ("image/pñg", OPAQUE),
        ("image", OPAQUE),
        ("", OPAQUE),
        ("a/" + "b" * 200, OPAQUE),
    ],
)
def test_a_claimed_media_type_goes_into_a_header_only_if_it_is_one(claimed: str, taken: str) -> None:
    assert safe_type(claimed) == taken
