"""Fan-out requests, and the tokens that authorise them."""

from __future__ import annotations

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
    issue_token,
    verify_token,
)
from tests.mimi.support import APPLICATION, vec

ALICE, BOB = "mimi://a.example/d/alice/ABC", "mimi://a.example/d/bob/ABC"


def test_a_fan_out_names_its_recipients_and_a_token_for_each() -> None:
    request = DSFanoutRequest(
        recipient_ids=(ClientID(client_id=ALICE), ClientID(client_id=BOB)),
        fanout_auth_tokens=(FanoutAuthToken(token=b"one"), FanoutAuthToken(token=b"two")),
        mls_message=APPLICATION,
    )
    clients = vec(vec(ALICE.encode()), vec(BOB.encode()))
    assert request.encode() == b"\1" + clients + vec(vec(b"one"), vec(b"two")) + APPLICATION
    with pytest.raises(MimiDecodeError, match="for each recipient"):
        DSFanoutRequest.decode(b"\1" + clients + vec(vec(b"one")) + APPLICATION)
    with pytest.raises(ValueError, match="for each recipient"):
        DSFanoutRequest(
            recipient_ids=request.recipient_ids,
            fanout_auth_tokens=(FanoutAuthToken(token=b"one"),),
            mls_message=APPLICATION,
        )


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


def test_a_token_is_for_one_client_of_one_provider() -> None:
    token = issue_token(b"secret", ALICE)
    assert token == issue_token(b"secret", ALICE)
    verify_token(b"secret", ALICE, token)
    for secret, client, wrong in (
        (b"other", ALICE, token),
        (b"secret", BOB, token),
        (b"secret", ALICE, FanoutAuthToken(token=token.token[:-1])),
        (b"secret", ALICE, FanoutAuthToken(token=b"")),
    ):
        with pytest.raises(SignatureError):
            verify_token(secret, client, wrong)
