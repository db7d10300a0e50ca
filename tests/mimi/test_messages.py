"""Submitting application messages and fanning everything out."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.handshake import RatchetTreeOption
from linearized.mimi.messages import (
    FanoutMessage,
    Frank,
    SubmitMessageRequest,
    SubmitMessageResponse,
    SubmitResponseCode,
    decode_fanout_stream,
    message_role,
)
from linearized.mimi.mls_framing import welcome_message
from tests.mimi.support import (
    APPLICATION,
    COMMIT,
    GROUP_INFO,
    KEY_PACKAGE,
    PROPOSAL,
    RATCHET_TREE,
    WELCOME,
    private_message,
    public_message,
    u16,
    vec,
)

FRANK = Frank(
    server_frank=bytes(range(32)), franking_signature_ciphersuite=1, franking_integrity_signature=b"sig"
)
TREE = RatchetTreeOption.full(RATCHET_TREE)
WELCOME_MESSAGE = welcome_message(WELCOME)
AT = (1_700_000_000_000).to_bytes(8, "big")

FANNED_OUT = [
    (FanoutMessage(timestamp=1_700_000_000_000, message=APPLICATION), AT + APPLICATION + b"\x00"),
    (
        FanoutMessage(timestamp=1_700_000_000_000, message=APPLICATION, frank=FRANK),
        AT + APPLICATION + b"\x01" + bytes(range(32)) + b"\x00\x01\x03sig",
    ),
    (
        FanoutMessage(timestamp=1_700_000_000_000, message=WELCOME_MESSAGE, ratchet_tree_option=TREE),
        AT + WELCOME_MESSAGE + b"\x01" + RATCHET_TREE,
    ),
    (
        FanoutMessage(timestamp=1_700_000_000_000, message=PROPOSAL, more_proposals=(PROPOSAL,)),
        AT + PROPOSAL + vec(PROPOSAL),
    ),
    (
        FanoutMessage(timestamp=1_700_000_000_000, message=COMMIT, external_proposals=(PROPOSAL,)),
        AT + COMMIT + vec(PROPOSAL),
    ),
]


def test_a_message_is_submitted_with_its_senders_uri() -> None:
    request = SubmitMessageRequest(message=APPLICATION, sending_uri="mimi://b.example/u/bob")
    assert request.encode() == b"\x01" + APPLICATION + b"\x16mimi://b.example/u/bob"
    assert SubmitMessageRequest.decode(request.encode()) == request


@pytest.mark.parametrize("message", [PROPOSAL, private_message(2), WELCOME_MESSAGE])
def test_only_an_application_message_can_be_submitted(message: bytes) -> None:
    with pytest.raises(MimiDecodeError):
        SubmitMessageRequest.decode(b"\x01" + message + b"\x00")


def test_no_other_protocol_than_mls_can_be_read() -> None:
    with pytest.raises(MimiDecodeError, match="2 is not a Protocol"):
        SubmitMessageRequest.decode(b"\x02" + APPLICATION + b"\x00")


@pytest.mark.parametrize(
    ("response", "data"),
    [
        (
            SubmitMessageResponse(code=SubmitResponseCode.ACCEPTED, accepted_timestamp=5),
            "01 00 0000000000000005 00",
        ),
        (
            SubmitMessageResponse(code=SubmitResponseCode.ACCEPTED, accepted_timestamp=5, frank=FRANK),
            "01 00 0000000000000005 01" + bytes(range(32)).hex() + "0001 03736967",
        ),
        (SubmitMessageResponse(code=SubmitResponseCode.NOT_ALLOWED), "01 01"),
        (
            SubmitMessageResponse(code=SubmitResponseCode.EPOCH_TOO_OLD, current_epoch=9),
            "01 02 0000000000000009",
        ),
    ],
)
def test_the_answer_to_a_message_depends_on_its_code(response: SubmitMessageResponse, data: str) -> None:
    assert response.encode() == bytes.fromhex(data)
    assert SubmitMessageResponse.decode(bytes.fromhex(data)) == response


@pytest.mark.parametrize(("message", "data"), FANNED_OUT)
def test_what_follows_a_fanned_out_message_depends_on_what_it_is(message: FanoutMessage, data: bytes) -> None:
    assert message.encode() == data
    assert FanoutMessage.decode(data) == message


def test_concatenated_messages_are_read_in_order() -> None:
    stream = b"".join(data for _, data in FANNED_OUT)
    assert decode_fanout_stream(stream) == [message for message, _ in FANNED_OUT]


@pytest.mark.parametrize("data", [b"", AT, FANNED_OUT[0][1] + b"\x00", FANNED_OUT[0][1] + AT + COMMIT])
def test_a_notification_is_refused_as_a_whole(data: bytes) -> None:
    with pytest.raises(MimiDecodeError):
        decode_fanout_stream(data)


@pytest.mark.parametrize(
    "message",
    [
        private_message(2),  # an encrypted proposal
        private_message(3),
        public_message(1, vec(b"plaintext")),
        u16(1) + u16(4) + GROUP_INFO,
        u16(1) + u16(5) + KEY_PACKAGE,
    ],
)
def test_nothing_else_is_fanned_out(message: bytes) -> None:
    with pytest.raises(MimiDecodeError, match="is not fanned out"):
        message_role(message)
    with pytest.raises(MimiDecodeError):
        FanoutMessage.decode(AT + message + b"\x00")


@pytest.mark.parametrize(
    "message",
    [
        FanoutMessage(timestamp=1, message=COMMIT, frank=FRANK),
        FanoutMessage(timestamp=1, message=COMMIT, more_proposals=(PROPOSAL,)),
        FanoutMessage(timestamp=1, message=WELCOME_MESSAGE),
        FanoutMessage(timestamp=1, message=COMMIT, ratchet_tree_option=TREE),
        FanoutMessage(timestamp=1, message=PROPOSAL, external_proposals=(PROPOSAL,)),
    ],
)
def test_a_message_with_the_wrong_company_cannot_be_written(message: FanoutMessage) -> None:
    with pytest.raises(ValueError, match="select"):
        message.encode()
