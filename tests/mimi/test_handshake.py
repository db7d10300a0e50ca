"""Handshake bundles and the hub's answers to them."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.handshake import (
    GroupInfoOption,
    GroupInfoRepresentation,
    HandshakeBundle,
    PartialGroupInfo,
    RatchetTreeOption,
    RatchetTreePresence,
    RatchetTreeRepresentation,
    UpdateResponseCode,
    UpdateRoomResponse,
)
from tests.mimi.support import (
    APPLICATION,
    COMMIT,
    EXTENSIONS,
    GROUP_INFO,
    PROPOSAL,
    RATCHET_TREE,
    WELCOME,
    real_messages,
)

FULL = GroupInfoOption(full=GROUP_INFO)
TREE = RatchetTreeOption.full(RATCHET_TREE)
PARTIAL = PartialGroupInfo(
    ratchet_tree_presence=RatchetTreePresence.ADDED, group_info_extensions=EXTENSIONS, signature=b"signature"
)


def test_a_commit_carries_welcome_group_info_and_tree_in_this_order() -> None:
    bundle = HandshakeBundle(message=COMMIT, welcome=WELCOME, group_info=FULL, ratchet_tree=TREE)
    assert bundle.encode() == COMMIT + b"\x01" + WELCOME + b"\x01" + GROUP_INFO + b"\x01" + RATCHET_TREE
    assert HandshakeBundle.decode(bundle.encode()) == bundle
    assert bundle.is_commit


def test_a_commit_that_adds_nobody_has_no_welcome() -> None:
    bundle = HandshakeBundle(message=COMMIT, group_info=GroupInfoOption(partial=PARTIAL), ratchet_tree=TREE)
    assert bundle.encode() == COMMIT + b"\x00\x02\x03" + EXTENSIONS + b"\x09signature\x01" + RATCHET_TREE
    assert HandshakeBundle.decode(bundle.encode()) == bundle


def test_a_proposal_carries_only_more_proposals() -> None:
    bundle = HandshakeBundle(message=PROPOSAL, more_proposals=(PROPOSAL, PROPOSAL))
    assert bundle.encode() == PROPOSAL + b"\x40" + bytes([2 * len(PROPOSAL)]) + PROPOSAL + PROPOSAL
    assert HandshakeBundle.decode(bundle.encode()) == bundle
    assert not bundle.is_commit
    assert HandshakeBundle.decode(PROPOSAL + b"\x00") == HandshakeBundle(message=PROPOSAL)


@pytest.mark.parametrize("case", real_messages())
def test_a_bundle_of_real_mls_bytes_round_trips(case: dict[str, bytes]) -> None:
    bundle = HandshakeBundle(
        message=case["public_message_commit"],
        welcome=case["mls_welcome"][4:],
        group_info=GroupInfoOption(full=case["mls_group_info"][4:]),
        ratchet_tree=RatchetTreeOption.full(case["ratchet_tree"]),
    )
    assert HandshakeBundle.decode(bundle.encode()) == bundle


@pytest.mark.parametrize(
    "data",
    [
        APPLICATION,
        COMMIT,
        PROPOSAL,
        COMMIT + b"\x02" + WELCOME,
        COMMIT + b"\x00\x03",  # representation of the GroupInfo
        COMMIT + b"\x00\x01" + GROUP_INFO + b"\x05",  # representation of the tree
        PROPOSAL + b"\x04" + b"\x00" * 4,  # not a proposal among more_proposals
    ],
)
def test_a_bundle_that_is_not_whole_is_refused(data: bytes) -> None:
    with pytest.raises(MimiDecodeError):
        HandshakeBundle.decode(data)


@pytest.mark.parametrize(
    "bundle",
    [
        HandshakeBundle(message=COMMIT),
        HandshakeBundle(message=COMMIT, group_info=FULL),
        HandshakeBundle(message=COMMIT, group_info=FULL, ratchet_tree=TREE, more_proposals=(PROPOSAL,)),
        HandshakeBundle(message=PROPOSAL, welcome=WELCOME),
        HandshakeBundle(message=PROPOSAL, more_proposals=(COMMIT,)),
        HandshakeBundle(message=APPLICATION),
    ],
)
def test_a_bundle_with_the_wrong_parts_cannot_be_written(bundle: HandshakeBundle) -> None:
    with pytest.raises(ValueError, match=r"selects it|does not select it|not the bytes"):
        bundle.encode()


def test_group_info_is_either_full_or_partial() -> None:
    assert FULL.representation is GroupInfoRepresentation.FULL
    assert GroupInfoOption(partial=PARTIAL).representation is GroupInfoRepresentation.PARTIAL
    for full, partial in ((None, None), (GROUP_INFO, PARTIAL)):
        with pytest.raises(ValueError, match="either full or partial"):
            GroupInfoOption(full=full, partial=partial)


@pytest.mark.parametrize(
    ("option", "data"),
    [
        (TREE, b"\x01" + RATCHET_TREE),
        (
            RatchetTreeOption(
                representation=RatchetTreeRepresentation.HTTPS_URI,
                url="https://a.example/t",
                tree_signature=b"s",
            ),
            b"\x02\x13https://a.example/t\x01s",
        ),
        (
            RatchetTreeOption(representation=RatchetTreeRepresentation.OUT_OF_BAND, tree_signature=b"s"),
            b"\x03\x01s",
        ),
        (RatchetTreeOption(representation=RatchetTreeRepresentation.DISTRIBUTION_SERVICE), b"\x04"),
    ],
)
def test_a_ratchet_tree_is_sent_in_one_of_four_ways(option: RatchetTreeOption, data: bytes) -> None:
    assert option.encode() == data
    assert RatchetTreeOption.decode(data) == option


@pytest.mark.parametrize(
    ("response", "data"),
    [
        (
            UpdateRoomResponse(code=UpdateResponseCode.SUCCESS, accepted_timestamp=1_700_000_000_000),
            "00 00 0000018bcfe56800",
        ),
        (
            UpdateRoomResponse(code=UpdateResponseCode.WRONG_EPOCH, description="old", current_epoch=8),
            "01 036f6c64 0000000000000008",
        ),
        (UpdateRoomResponse(code=UpdateResponseCode.NOT_ALLOWED), "02 00"),
        (
            UpdateRoomResponse(code=UpdateResponseCode.INVALID_PROPOSAL, invalid_proposals=(b"a", b"b")),
            "03 00 0401610162",
        ),
    ],
)
def test_the_answer_to_an_update_depends_on_its_code(response: UpdateRoomResponse, data: str) -> None:
    assert response.encode() == bytes.fromhex(data)
    assert UpdateRoomResponse.decode(bytes.fromhex(data)) == response


def test_an_answer_with_an_unknown_code_cannot_be_read() -> None:
    with pytest.raises(MimiDecodeError, match="4 is not a UpdateResponseCode"):
        UpdateRoomResponse.decode(b"\x04\x00")
