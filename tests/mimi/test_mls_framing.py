"""The extent of MLS structures, against real bytes and every form there is."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi import mls_framing
from linearized.mimi.mls_framing import (
    Walk,
    message_kind,
    welcome_ciphersuite,
    welcome_message,
    welcome_struct,
)
from linearized.mimi.tls import Reader
from tests.mimi.support import (
    APPLICATION,
    BASIC,
    COMMIT,
    GROUP_INFO,
    KEY_PACKAGE,
    PROPOSALS,
    SENDERS,
    WELCOME,
    leaf_node,
    private_message,
    public_message,
    real_messages,
    samples,
    u16,
    vec,
)

PROPOSAL_TYPES = {
    "add": 1,
    "update": 2,
    "remove": 3,
    "pre_shared_key": 4,
    "re_init": 5,
    "external_init": 6,
    "group_context_extensions": 7,
}


def passes_exactly(walk: Walk, data: bytes) -> None:
    reader = Reader(data + b"\xff")
    walk(reader)
    assert reader.remaining == 1


@pytest.mark.parametrize("case", real_messages())
def test_real_mls_structures_end_where_they_should(case: dict[str, bytes]) -> None:
    for name in ("mls_welcome", "mls_group_info", "mls_key_package", "private_message"):
        passes_exactly(mls_framing.walk_mls_message, case[name])
    for name in ("public_message_application", "public_message_proposal", "public_message_commit"):
        passes_exactly(mls_framing.walk_mls_message, case[name])
        assert message_kind(case[name]) == ("public", name.removeprefix("public_message_"))
    passes_exactly(mls_framing.walk_ratchet_tree, case["ratchet_tree"])
    for name, number in PROPOSAL_TYPES.items():
        passes_exactly(mls_framing.walk_proposal, u16(number) + case[f"{name}_proposal"])


@pytest.mark.parametrize(("walk", "data"), list(samples()))
def test_every_form_ends_where_it_should_and_nowhere_else(walk: Walk, data: bytes) -> None:
    passes_exactly(walk, data)
    for end in range(len(data)):
        with pytest.raises(MimiDecodeError):
            walk(Reader(data[:end]))


@pytest.mark.parametrize(
    ("walk", "data"),
    [
        (mls_framing.walk_proposal, u16(0x000B) + vec(b"")),  # a proposal type whose form is not known
        (mls_framing.walk_proposal, u16(0x0004) + b"\x04" + vec() + vec()),  # PSK type
        (mls_framing.walk_proposal, u16(0x0008) + u16(0x22) + b"\x00"),  # AppDataUpdate operation invalid(0)
        (mls_framing.walk_proposal, u16(0x0008) + u16(0x22) + b"\x03"),
        (mls_framing.walk_credential, u16(3) + vec(b"")),  # credential type
        (mls_framing.walk_leaf_node, leaf_node(b"\x04")),  # leaf node source
        (mls_framing.walk_capabilities, vec(b"\x00") + vec() * 4),  # half a value
        (mls_framing.walk_group_info, b"\x00\x02" + GROUP_INFO[2:]),  # MLS version
        (mls_framing.walk_key_package, b"\x00\x02" + KEY_PACKAGE[2:]),
        (mls_framing.walk_mls_message, b"\x00\x02" + COMMIT[2:]),
        (mls_framing.walk_mls_message, u16(1) + u16(6)),  # wire format
        (mls_framing.walk_mls_message, public_message(3, vec(b"\x03") + b"\x00")),  # ProposalOrRef type
        (mls_framing.walk_mls_message, public_message(3, vec() + b"\x02")),  # presence octet of the path
        (mls_framing.walk_mls_message, public_message(4, vec())),  # content type
        (mls_framing.walk_mls_message, private_message(0)),
        (mls_framing.walk_public_proposal, COMMIT),
        (mls_framing.walk_public_handshake, APPLICATION),
        (mls_framing.walk_public_handshake, public_message(1, vec(b"application data"))),
    ],
)
def test_what_cannot_be_walked_is_refused(walk: Walk, data: bytes) -> None:
    with pytest.raises(MimiDecodeError):
        walk(Reader(data))


def test_an_unknown_sender_type_is_refused() -> None:
    data = public_message(2, PROPOSALS["remove"], "new_member_proposal")
    assert data.count(b"\x07\x03\x03aad") == 1  # end of the epoch, sender type, authenticated data
    with pytest.raises(MimiDecodeError, match="0 is not a known sender type"):
        message_kind(data.replace(b"\x07\x03\x03aad", b"\x07\x00\x03aad"))


def test_the_kind_of_a_message_is_read_without_walking_it() -> None:
    assert message_kind(APPLICATION) == ("private", "application")
    assert message_kind(u16(1) + u16(3)) == ("welcome", None)
    assert message_kind(COMMIT[:60]).content_type == "commit"
    for sender in SENDERS:
        assert message_kind(public_message(2, b"", sender)) == ("public", "proposal")


def test_a_welcome_is_put_into_a_message_and_taken_out_again() -> None:
    message = welcome_message(WELCOME)
    assert message == u16(1) + u16(3) + WELCOME
    assert welcome_struct(message) == WELCOME


@pytest.mark.parametrize(
    "data", [COMMIT, welcome_message(WELCOME) + b"\x00", welcome_message(WELCOME)[:-1], b""]
)
def test_only_a_message_with_a_welcome_has_a_welcome(data: bytes) -> None:
    with pytest.raises(MimiDecodeError):
        welcome_struct(data)


@pytest.mark.parametrize("data", [WELCOME + b"\x00", WELCOME[:-1], b""])
def test_only_a_welcome_goes_into_a_message(data: bytes) -> None:
    with pytest.raises(MimiDecodeError):
        welcome_message(data)


def test_a_basic_credential_may_have_any_identity() -> None:
    passes_exactly(mls_framing.walk_credential, BASIC)
    passes_exactly(mls_framing.walk_credential, u16(1) + vec())


def test_the_cipher_suite_of_a_welcome_stands_behind_the_header() -> None:
    assert welcome_ciphersuite(bytes.fromhex("00010003 0007 00")) == 7
    with pytest.raises(MimiDecodeError):
        welcome_ciphersuite(bytes.fromhex("00010003 00"))
