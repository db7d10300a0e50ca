"""Fan-out requests, and the tokens that authorise them."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.exceptions import MimiDecodeError, SignatureError
from linearized.mimi.delivery_service import ClientID, DSErrorCode
from linearized.mimi.fanout_requests import (
    DSFanoutError,
    DSFanoutRequest,
    DSFanoutResponse,
    DSFanoutResponseBody,
    DSFanoutResponseType,
    FanoutAuthToken,
    FanoutRegistration,
    issue_token,
    verify_token,
)
from linearized.mimi.handshake import RatchetTreeOption
from linearized.mimi.messages import FanoutMessage, Frank
from linearized.mimi.mls_framing import welcome_message
from tests.mimi.support import APPLICATION, COMMIT, PROPOSAL, RATCHET_TREE, WELCOME, vec

ALICE, BOB = "mimi://a.example/d/alice/ABC", "mimi://a.example/d/bob/ABC"


def request(message: bytes = APPLICATION, **more: Any) -> DSFanoutRequest:
    return DSFanoutRequest.of(
        FanoutMessage(timestamp=7, message=message, **more),
        recipients=(ClientID(client_id=ALICE), ClientID(client_id=BOB)),
        tokens=(FanoutAuthToken(token=b"one"), FanoutAuthToken(token=b"two")),
    )


def test_a_fan_out_names_its_recipients_and_a_token_for_each() -> None:
    clients = vec(vec(ALICE.encode()), vec(BOB.encode()))
    made = request()
    # The draft's structure, then the hub's time and that there is no frank.
    drafted = b"\1" + clients + vec(vec(b"one"), vec(b"two")) + APPLICATION
    assert made.encode() == drafted + (7).to_bytes(8, "big") + b"\0"
    with pytest.raises(MimiDecodeError):
        DSFanoutRequest.decode(drafted)
    with pytest.raises(MimiDecodeError, match="for each recipient"):
        DSFanoutRequest.decode(b"\1" + clients + vec(vec(b"one")) + APPLICATION + bytes(9))
    with pytest.raises(ValueError, match="for each recipient"):
        DSFanoutRequest(
            recipient_ids=made.recipient_ids,
            fanout_auth_tokens=(FanoutAuthToken(token=b"one"),),
            mls_message=APPLICATION,
            timestamp=7,
        )


def frank() -> Frank:
    return Frank(server_frank=bytes(32), franking_signature_ciphersuite=1, franking_integrity_signature=b"s")


@pytest.mark.parametrize(
    ("message", "more"),
    [
        (APPLICATION, {"frank": frank()}),
        (COMMIT, {"external_proposals": (PROPOSAL,)}),
        (PROPOSAL, {"more_proposals": (PROPOSAL, PROPOSAL)}),
        (welcome_message(WELCOME), {"ratchet_tree_option": RatchetTreeOption.full(RATCHET_TREE)}),
    ],
)
def test_it_carries_what_a_notification_has_beside_the_message(message: bytes, more: dict[str, Any]) -> None:
    found = DSFanoutRequest.decode(request(message, **more).encode())
    assert found.fanned_out() == FanoutMessage(timestamp=7, message=message, **more)


def test_a_follower_registers_a_token_for_each_of_its_clients_or_none() -> None:
    token = FanoutAuthToken(token=b"one")
    registration = FanoutRegistration(recipient_ids=(ClientID(client_id=ALICE),), fanout_auth_tokens=(token,))
    assert registration.encode() == b"\1" + vec(vec(ALICE.encode())) + vec(vec(b"one"))
    assert FanoutRegistration().encode() == b"\1\0\0"
    with pytest.raises(MimiDecodeError, match="for each recipient"):
        FanoutRegistration.decode(b"\1" + vec(vec(ALICE.encode())) + vec())


def test_the_answer_is_taken_or_an_error() -> None:
    taken = DSFanoutResponse(response_body=DSFanoutResponseBody(response_type=DSFanoutResponseType.OK))
    assert taken.encode() == b"\1\0"
    refused = DSFanoutResponse(
        response_body=DSFanoutResponseBody(
            response_type=DSFanoutResponseType.ERROR,
            error=DSFanoutError(code=DSErrorCode.UNKNOWN_CLIENT, description="who?"),
        )
    )
    assert refused.encode() == b"\1\1\5" + vec(b"who?")


HUB, END = "hub.example", 1_000


def verified(
    token: FanoutAuthToken,
    *,
    secret: bytes = b"secret",
    hub: str = HUB,
    client: str = ALICE,
    now: int = END - 1,
) -> None:
    verify_token(secret, token, hub=hub, client=client, now_ms=now)


def test_a_token_is_for_one_client_of_one_provider_one_hub_and_some_time() -> None:
    token = issue_token(b"secret", hub=HUB, client=ALICE, expires_ms=END)
    assert token == issue_token(b"secret", hub=HUB, client=ALICE, expires_ms=END)
    assert token.token[:8] == END.to_bytes(8, "big")
    verified(token)
    for secret, hub, client in (
        (b"other", HUB, ALICE),
        (b"secret", "other.example", ALICE),
        (b"secret", HUB, BOB),
    ):
        with pytest.raises(SignatureError, match="not one of this client for this hub"):
            verified(token, secret=secret, hub=hub, client=client)
    with pytest.raises(SignatureError, match="expired"):
        verified(token, now=END)


def test_a_token_that_was_made_longer_lived_or_cut_is_none() -> None:
    token = issue_token(b"secret", hub=HUB, client=ALICE, expires_ms=END).token
    longer = (END + 1).to_bytes(8, "big") + token[8:]
    with pytest.raises(SignatureError, match="not one of this client for this hub"):
        verified(FanoutAuthToken(token=longer))
    for cut in (token[:-1], token + b"x", b""):
        with pytest.raises(SignatureError, match="none of ours"):
            verified(FanoutAuthToken(token=cut))
