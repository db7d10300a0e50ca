"""Which media types clients read, and how a message names its own (draft-ietf-mls-extensions, "Content
Advertisement").

In a group with the ``content_media_types`` component an application message is an ``ApplicationFraming``; in
any other it is MIMI content as it is. Neither can be taken for the other: MIMI content begins with 0x87, an
array of seven, which would be a length of more than a hundred megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from linearized.exceptions import MimiDecodeError
from linearized.mimi.app_data import (
    APP_COMPONENTS,
    CONTENT_MEDIA_TYPES,
    SAFE_AAD_COMPONENT,
    ComponentsList,
)
from linearized.mimi.bridged import BRIDGED_CLIENT
from linearized.mimi.content import MimiContent
from linearized.mimi.participants import FRANK_AAD, FRANKING_AGENT, PARTICIPANT_LIST, ROOM_METADATA
from linearized.mimi.policy.common import MAX_ITEMS, MediaType, Parameter
from linearized.mimi.policy.components import POLICY_COMPONENTS
from linearized.mimi.tls import Bytes, Struct, Vector

MIMI_CONTENT: Final = MediaType(media_type="application/mimi-content")
# "Clients compliant with MIMI MUST be able to receive the following media types" (MIMI content, 7.1).
RECEIVED: Final = (
    MIMI_CONTENT,
    MediaType(
        media_type="text/plain", parameters=(Parameter(parameter_name="charset", parameter_value="utf-8"),)
    ),
    MediaType(
        media_type="text/markdown",
        parameters=(Parameter(parameter_name="variant", parameter_value="GFM-MIMI"),),
    ),
)
_COMPONENTS: Final = (
    APP_COMPONENTS,
    SAFE_AAD_COMPONENT,
    CONTENT_MEDIA_TYPES,
    FRANK_AAD,
    FRANKING_AGENT,
    PARTICIPANT_LIST,
    ROOM_METADATA,
    BRIDGED_CLIENT,
    *POLICY_COMPONENTS,
)
_ARRAY_OF_SEVEN: Final = b"\x87"


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaTypeList(Struct):
    """The ``content_media_types`` component: what a leaf reads, or what everybody in a group has to."""

    media_type_list: Annotated[tuple[MediaType, ...], Vector(MediaType, min_items=1, max_items=MAX_ITEMS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationFraming(Struct):
    """The ``application_data`` of a message in a group with ``content_media_types``."""

    media_type: MediaType
    inner_application_content: Bytes


def leaf_components() -> dict[int, bytes]:
    """The ``app_data_dictionary`` of a client's leaf: the components and media types that it knows.

    Who adds it to a group can tell from it that it knows what the group requires.
    """
    return {
        APP_COMPONENTS: ComponentsList(component_ids=tuple(sorted(_COMPONENTS))).encode(),
        SAFE_AAD_COMPONENT: ComponentsList(component_ids=(FRANK_AAD,)).encode(),
        CONTENT_MEDIA_TYPES: MediaTypeList(media_type_list=RECEIVED).encode(),
    }


def framed(content: bytes, app_data: Mapping[int, bytes]) -> bytes:
    """Encoded MIMI content as the ``application_data`` of a message in a group with this dictionary."""
    if CONTENT_MEDIA_TYPES not in app_data:
        return content
    return ApplicationFraming(media_type=MIMI_CONTENT, inner_application_content=content).encode()


def read_message(application_data: bytes) -> MimiContent:
    """The MIMI content in a message that was found to be framed as its group asks (``check_framing``).

    Raises:
        MimiDecodeError: it has another media type, or is malformed.
    """
    if application_data.startswith(_ARRAY_OF_SEVEN):
        return MimiContent.decode(application_data)
    framing = ApplicationFraming.decode(application_data)
    # Media types are compared without regard to case (RFC 9110, section 8.3.1).
    if framing.media_type.media_type.lower() not in ("", MIMI_CONTENT.media_type):
        raise MimiDecodeError(f"the message is of the media type {framing.media_type.media_type!r}")
    return MimiContent.decode(framing.inner_application_content)


def check_framing(application_data: bytes, app_data: Mapping[int, bytes]) -> None:
    """Hold a message to the framing that its group has.

    Args:
        app_data: the group's ``app_data_dictionary``.

    Raises:
        MimiDecodeError: it is framed where it must not be, or the reverse, or it leaves its media type to the
            group and that is not MIMI content.
    """
    types = app_data.get(CONTENT_MEDIA_TYPES)
    if application_data.startswith(_ARRAY_OF_SEVEN) is (types is not None):
        raise MimiDecodeError("the message is not framed as its group asks")
    if types is None or ApplicationFraming.decode(application_data).media_type.media_type:
        return
    # "The media_type.type MAY be zero length, in which case, the media type of the inner_application_content
    # is interpreted as the first MediaType specified in the content_media_types component in the
    # GroupContext."
    first = MediaTypeList.decode(types).media_type_list[0].media_type
    if first.lower() != MIMI_CONTENT.media_type:
        raise MimiDecodeError(f"the message is of the group's media type, {first!r}")
