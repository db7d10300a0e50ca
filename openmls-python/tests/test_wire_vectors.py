"""The official structs come out of the decoder as they went in; no other encoding of them is taken.

Whatever is not an MLSMessage is put into one. `group_secrets` is left out: it travels encrypted only.
"""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge import HEADER, vector
from openmls import MalformedMessage, inspect_message, reencode

VECTORS = Path(__file__).parent / "vectors"
CASES = [
    {name: bytes.fromhex(value) for name, value in case.items()}
    for case in json.loads((VECTORS / "messages.json").read_text())["cases"]
]
LENGTHS = json.loads((VECTORS / "deserialization.json").read_text())["cases"]
WHOLE = (
    "mls_welcome",
    "mls_group_info",
    "mls_key_package",
    "public_message_application",
    "public_message_proposal",
    "public_message_commit",
    "private_message",
)
PROPOSALS = {  # by ProposalType, RFC 9420 section 17.4
    "add_proposal": 1,
    "update_proposal": 2,
    "remove_proposal": 3,
    "pre_shared_key_proposal": 4,
    "re_init_proposal": 5,
    "external_init_proposal": 6,
    "group_context_extensions_proposal": 7,
}
# Of draft-ietf-mls-extensions, which the official vectors do not have: what it says the structs are.
DRAFT_PROPOSALS = {
    "an update of a component": b"\x00\x08" + b"\x80\x01" + b"\x01" + vector(b"update"),
    "an empty update": b"\x00\x08" + b"\x80\x01" + b"\x01" + vector(b""),
    "a removal of a component": b"\x00\x08" + b"\x80\x01" + b"\x02",
    "a SelfRemove": b"\x00\x0a",
}
LONGEST_ALLOCATED = 1 << 16  # the official lengths go up to a gibibyte; longer ones are only begun


def framed(content_type: int, content: bytes) -> bytes:
    """An MLSMessage(PublicMessage) of the member at leaf 1."""
    front = vector(b"group") + (7).to_bytes(8, "big") + b"\x01\x00\x00\x00\x01" + vector(b"aad")
    confirmation_tag = vector(b"confirmation tag") if content_type == 3 else b""
    tags = vector(b"signature") + confirmation_tag + vector(b"membership tag")
    return HEADER + front + bytes([content_type]) + content + tags


def group_info(extensions: bytes) -> bytes:
    """An MLSMessage(GroupInfo) with these extensions."""
    context = b"\x00\x01\x00\x01" + vector(b"group") + bytes(8) + vector(b"tree hash") + vector(b"") * 2
    return b"\x00\x01\x00\x04" + context + extensions + vector(b"tag") + bytes(4) + vector(b"signature")


def in_messages(case: dict[str, bytes]) -> dict[str, bytes]:
    """Everything of a case that the decoder takes, as MLSMessages."""
    messages = {name: case[name] for name in WHOLE}
    messages["commit"] = framed(3, case["commit"])
    messages["ratchet_tree"] = group_info(vector(b"\x00\x02" + vector(case["ratchet_tree"])))
    for name, number in PROPOSALS.items():
        if name != "re_init_proposal":
            messages[name] = framed(2, number.to_bytes(2, "big") + case[name])
    return messages


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_official_structs_are_encoded_as_they_were(case: dict[str, bytes]) -> None:
    messages = in_messages(case)
    assert len(messages) == 15
    for name, data in messages.items():
        assert reencode(data) == data, name


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_the_official_reinit_is_refused_for_an_extension_no_group_may_have(case: dict[str, bytes]) -> None:
    # Its extension is a `ratchet_tree`, which RFC 9420 section 17.3 has in GroupInfos only.
    data = case["re_init_proposal"]
    with pytest.raises(MalformedMessage, match="not allowed in the group context"):
        reencode(framed(2, b"\x00\x05" + data))
    without = vector(b"another group") + b"\x00\x01" + b"\x00\x02" + vector(b"")
    assert reencode(framed(2, b"\x00\x05" + without)) == framed(2, b"\x00\x05" + without)


@pytest.mark.parametrize("proposal", DRAFT_PROPOSALS.values(), ids=DRAFT_PROPOSALS)
def test_proposals_of_the_extensions_draft_are_encoded_as_they_were(proposal: bytes) -> None:
    data = framed(2, proposal)
    assert reencode(data) == data
    commit = framed(3, vector(b"\x01" + proposal) + b"\x00")
    assert reencode(commit) == commit
    for wrong in (framed(2, proposal + b"\x00"), framed(2, proposal[:-1])):
        with pytest.raises(MalformedMessage):
            reencode(wrong)


@pytest.mark.parametrize("operation", [0, 3, 255])
def test_an_app_data_update_with_another_operation_is_refused(operation: int) -> None:
    # draft-ietf-mls-extensions section 4.7: "invalid(0), update(1), remove(2), (255)"
    with pytest.raises(MalformedMessage):
        reencode(framed(2, b"\x00\x08\x80\x01" + bytes([operation]) + vector(b"")))


@pytest.mark.parametrize("case", LENGTHS, ids=lambda case: f"{case['length']} octets")
def test_official_lengths_are_decoded_and_encoded(case: dict[str, str | int]) -> None:
    header, length = bytes.fromhex(str(case["vlbytes_header"])), int(case["length"])
    before = b"\x00\x01\x00\x02" + vector(b"group") + bytes(8) + b"\x01"  # PrivateMessage up to its data
    after = vector(b"sender data") + vector(b"ciphertext")
    if length > LONGEST_ALLOCATED:
        with pytest.raises(MalformedMessage):
            inspect_message(before + header + bytes(LONGEST_ALLOCATED) + after)
        return
    data = before + header + bytes(length) + after
    assert inspect_message(data).authenticated_data == bytes(length)
    assert reencode(data) == data


@pytest.mark.parametrize("header", ["4000", "403f", "80000000", "80003fff", "c000000000000000"])
def test_a_length_that_takes_more_octets_than_it_needs_is_refused(header: str) -> None:
    # RFC 9420 section 2.1.2 demands the shortest length field, and has none that begins with the bits 11.
    encoded = bytes.fromhex(header)
    content = bytes(int.from_bytes(encoded, "big") & 0x3FFF)
    before = b"\x00\x01\x00\x02" + vector(b"group") + bytes(8) + b"\x01"
    with pytest.raises(MalformedMessage):
        reencode(before + encoded + content + vector(b"sender data") + vector(b"ciphertext"))


@settings(deadline=None, max_examples=400)
@given(data=st.data())
def test_a_damaged_struct_is_refused_or_encoded_as_it_is(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(CASES))
    message = bytearray(data.draw(st.sampled_from(list(in_messages(case).values()))))
    for _ in range(data.draw(st.integers(1, 3))):
        near = data.draw(st.integers(0, min(len(message), 200) - 1) | st.integers(0, len(message) - 1))
        message[near] = data.draw(st.integers(0, 255))
    with suppress(MalformedMessage):
        assert reencode(bytes(message)) == message
