"""The room metadata component."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.room_metadata import RichDescription, RoomMetaData


def test_metadata_is_uris_texts_and_descriptions() -> None:
    data = RoomMetaData(
        room_uri="r",
        room_name="Club",
        room_descriptions=(RichDescription(language_tag="en", description_content=b"d"),),
        room_avatar="https://a.example/i",
        room_subject="s",
    )
    assert (
        data.encode() == b"\x01r\x04Club" + b"\x06\x00\x02en\x01d" + b"\x13https://a.example/i" + b"\x01s\x00"
    )
    assert RoomMetaData.decode(data.encode()) == data


def test_its_texts_have_no_nulls() -> None:
    with pytest.raises(MimiDecodeError, match="null"):
        RoomMetaData.decode(b"\x00\x01\x00\x00\x00\x00\x00")
