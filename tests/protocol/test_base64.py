from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.exceptions import InvalidInput
from linearized.protocol.base64 import decode_base64, encode_base64, encode_base64url
from tests.protocol.support import quick


def test_encoding_has_no_padding() -> None:
    assert [encode_base64(data) for data in (b"", b"f", b"fo", b"foo")] == ["", "Zg", "Zm8", "Zm9v"]


def test_the_two_alphabets_differ_in_two_characters() -> None:
    assert (encode_base64(b"\xfb\xff"), encode_base64url(b"\xfb\xff")) == ("+/8", "-_8")


@pytest.mark.parametrize("text", ["+/8", "-_8", "+/8=", "-_8="])
def test_padding_and_either_alphabet_are_read(text: str) -> None:
    assert decode_base64(text) == b"\xfb\xff"


@pytest.mark.parametrize("text", ["A", "AAAAA", "A B=", "AA\n", "A=A", "é", "\ud800", "A.AA", "\0\0"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not base64"):
        decode_base64(text)


@quick
@given(st.binary(max_size=50))
def test_decoding_undoes_both_encodings(data: bytes) -> None:
    assert decode_base64(encode_base64(data)) == data
    assert decode_base64(encode_base64url(data)) == data
