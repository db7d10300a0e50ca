"""Media types of application messages and of leaves."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.app_data import APP_COMPONENTS, CONTENT_MEDIA_TYPES, SAFE_AAD_COMPONENT, ComponentsList
from linearized.mimi.content import text
from linearized.mimi.media_types import (
    MIMI_CONTENT,
    ApplicationFraming,
    MediaTypeList,
    check_framing,
    framed,
    leaf_components,
    read_message,
)
from linearized.mimi.participants import FRANK_AAD, PARTICIPANT_LIST
from linearized.mimi.policy.common import MediaType

CONTENT = text("hi", salt=b"s" * 16)
PLAIN = MediaType(media_type="text/plain")


def group_of(*types: MediaType) -> dict[int, bytes]:
    return {CONTENT_MEDIA_TYPES: MediaTypeList(media_type_list=types).encode()}


def message_of(name: str) -> bytes:
    return ApplicationFraming(
        media_type=MediaType(media_type=name), inner_application_content=CONTENT.encode()
    ).encode()


def test_a_leaf_says_which_media_types_and_components_its_client_knows() -> None:
    found = leaf_components()
    assert found[CONTENT_MEDIA_TYPES].hex() == (
        "4054"  # 26, 26 and 32 octets
        "18" + b"application/mimi-content".hex() + "00"
        "0a" + b"text/plain".hex() + "0e07" + b"charset".hex() + "05" + b"utf-8".hex() + "0d"
        + b"text/markdown".hex() + "1107" + b"variant".hex() + "08" + b"GFM-MIMI".hex()
    )  # fmt: skip
    components = ComponentsList.decode(found[APP_COMPONENTS]).component_ids
    assert {APP_COMPONENTS, SAFE_AAD_COMPONENT, CONTENT_MEDIA_TYPES, PARTICIPANT_LIST} <= set(components)
    assert ComponentsList.decode(found[SAFE_AAD_COMPONENT]).component_ids == (FRANK_AAD,)


def test_a_message_is_framed_in_a_group_that_has_the_component_and_in_no_other() -> None:
    group = group_of(MIMI_CONTENT)
    bare, framing = framed(CONTENT.encode(), {}), framed(CONTENT.encode(), group)
    assert bare == CONTENT.encode()
    assert ApplicationFraming.decode(framing).media_type == MIMI_CONTENT
    assert read_message(bare) == read_message(framing) == CONTENT
    check_framing(bare, {})
    check_framing(framing, group)
    for data, other in ((bare, group), (framing, {})):
        with pytest.raises(MimiDecodeError, match="not framed as its group asks"):
            check_framing(data, other)


def test_a_message_may_leave_its_media_type_to_the_group() -> None:
    message = message_of("")
    check_framing(message, group_of(MIMI_CONTENT, PLAIN))
    assert read_message(message) == CONTENT
    with pytest.raises(MimiDecodeError, match="text/plain"):
        check_framing(message, group_of(PLAIN, MIMI_CONTENT))


def test_a_message_of_another_media_type_is_not_read() -> None:
    assert read_message(message_of("Application/MIMI-Content")) == CONTENT
    with pytest.raises(MimiDecodeError, match="application/json"):
        read_message(message_of("application/json"))


@pytest.mark.parametrize("data", [b"", b"\x00", message_of("") + b"\x00", b"\x01x\x00\x00"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(MimiDecodeError):
        read_message(data)


def test_a_list_of_media_types_is_not_empty() -> None:
    with pytest.raises(MimiDecodeError):
        MediaTypeList.decode(b"\x00")
