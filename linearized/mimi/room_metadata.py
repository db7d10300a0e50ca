"""The room metadata component (draft-ietf-mimi-protocol-06, "Room Metadata")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from linearized.mimi.tls import Bytes, String, Struct, Uri, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class RichDescription(Struct):
    """A description; an empty ``media_type`` is ``text/plain;charset=utf-8``."""

    media_type: String = ""
    language_tag: String = ""
    description_content: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomMetaData(Struct):
    """Data and update of the component; an update replaces the data as a whole."""

    room_uri: Uri
    room_name: String = ""
    room_descriptions: Annotated[tuple[RichDescription, ...], Vector(RichDescription)] = ()
    room_avatar: Uri = ""
    room_subject: String = ""
    room_mood: String = ""

    def __post_init__(self) -> None:
        # "a sequence of valid UTF8 without nulls"
        if "\0" in self.room_name + self.room_subject + self.room_mood:
            raise ValueError("a text of the room metadata has a null")
