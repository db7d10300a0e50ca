"""Requests and responses of the delivery service: their layout, octet for octet, and what is refused.

Round trips and damage are in ``test_properties``.
"""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.delivery_service import (
    ClientID,
    ClientSignatureTBS,
    CommitRequest,
    DeleteGroupRequest,
    DSAuthData,
    DSAuthType,
    DSError,
    DSErrorCode,
    DSPartialGroupInfo,
    DSRequest,
    DSRequestBody,
    DSRequestType,
    DSResponse,
    DSResponseBody,
    DSResponseType,
    ExternalCommitInfo,
    KeyPackagesRequest,
    MLSGroupUpdate,
    ProposalRequest,
    SendMessageRequest,
    WelcomeInfoRequest,
)
from linearized.mimi.mls_framing import welcome_message
from tests.mimi.support import (
    APPLICATION,
    COMMIT,
    EXTENSIONS,
    GROUP_INFO,
    KEY_PACKAGE,
    PROPOSAL,
    RATCHET_TREE,
    WELCOME,
    u16,
    vec,
)

PARTIAL = DSPartialGroupInfo(group_info_extensions=EXTENSIONS, signature=b"signature")
UPDATE = MLSGroupUpdate(commit=COMMIT, partial_group_info=PARTIAL)
UPDATE_BYTES = COMMIT + EXTENSIONS + vec(b"signature")
GROUP_INFO_MESSAGE = u16(1) + u16(4) + GROUP_INFO

BODIES = [
    (
        DSRequestBody(
            request_type=DSRequestType.DELETE_GROUP, delete_group=DeleteGroupRequest(group_update=UPDATE)
        ),
        b"\0" + UPDATE_BYTES,
    ),
    (
        DSRequestBody(
            request_type=DSRequestType.PROPOSALS, proposals=ProposalRequest(proposals=(PROPOSAL, PROPOSAL))
        ),
        b"\1" + vec(PROPOSAL, PROPOSAL),
    ),
    (
        DSRequestBody(
            request_type=DSRequestType.COMMITS,
            commits=CommitRequest(group_updates=(UPDATE,), welcome_messages=(welcome_message(WELCOME),)),
        ),
        b"\2" + vec(UPDATE_BYTES) + vec(welcome_message(WELCOME)),
    ),
    (
        DSRequestBody(
            request_type=DSRequestType.SEND_MESSAGE,
            send_message=SendMessageRequest(application_messages=(APPLICATION,)),
        ),
        b"\3" + vec(APPLICATION),
    ),
    (
        DSRequestBody(
            request_type=DSRequestType.KEY_PACKAGES,
            key_packages=KeyPackagesRequest(client_identifiers=(ClientID(client_id="mimi://a/d/b/C"),)),
        ),
        b"\4" + vec(vec(b"mimi://a/d/b/C")),
    ),
    (DSRequestBody(request_type=DSRequestType.GROUP_INFO), b"\5"),
    (
        DSRequestBody(
            request_type=DSRequestType.WELCOME_INFO,
            welcome_info=WelcomeInfoRequest(epoch=3, key_package_ref=b"ref", joined=1),
        ),
        b"\6" + bytes(7) + b"\3" + vec(b"ref") + b"\1",
    ),
]


@pytest.mark.parametrize(("body", "encoded"), BODIES, ids=lambda value: getattr(value, "request_type", None))
def test_each_operation_is_its_number_and_its_content(body: DSRequestBody, encoded: bytes) -> None:
    assert body.encode() == encoded
    assert DSRequestBody.decode(encoded) == body


def test_a_request_is_a_version_a_body_and_who_asks() -> None:
    body = DSRequestBody(request_type=DSRequestType.GROUP_INFO)
    unsigned = DSRequest(request_body=body, authentication_data=DSAuthData())
    assert unsigned.encode() == b"\1\5\0"
    signed = DSRequest(
        request_body=body,
        authentication_data=DSAuthData(
            auth_type=DSAuthType.CLIENT_SIGNATURE, sender_index=2, signature=bytes(64)
        ),
    )
    # ``opaque signature<0..255>``: 64 octets have a length of one octet, where ``<V>`` would take two.
    assert signed.encode() == b"\1\5\1" + b"\0\0\0\2" + b"\x40" + bytes(64)
    assert DSRequest.decode(signed.encode()) == signed


def test_the_signature_covers_version_body_and_index() -> None:
    body = DSRequestBody(request_type=DSRequestType.GROUP_INFO)
    auth = DSAuthData(auth_type=DSAuthType.CLIENT_SIGNATURE, sender_index=2, signature=b"")
    assert DSRequest(request_body=body, authentication_data=auth).tbs() == b"\1\5\0\0\0\2"
    assert ClientSignatureTBS(request_body=body, sender_index=2).encode() == b"\1\5\0\0\0\2"
    with pytest.raises(ValueError, match="not signed"):
        DSRequest(request_body=body, authentication_data=DSAuthData()).tbs()


def test_a_signature_has_at_most_255_octets() -> None:
    auth = DSAuthData(auth_type=DSAuthType.CLIENT_SIGNATURE, sender_index=0, signature=bytes(256))
    with pytest.raises(ValueError, match="length of one octet"):
        auth.encode()


@pytest.mark.parametrize(
    ("body", "encoded"),
    [
        (DSResponseBody(response_type=DSResponseType.OK), b"\0"),
        (
            DSResponseBody(
                response_type=DSResponseType.ERROR,
                error=DSError(code=DSErrorCode.WRONG_EPOCH, description="late", current_epoch=7),
            ),
            b"\1\2" + vec(b"late") + bytes(7) + b"\7",
        ),
        (
            DSResponseBody(response_type=DSResponseType.ERROR, error=DSError(code=DSErrorCode.NOT_ALLOWED)),
            b"\1\1\0",
        ),
        (
            DSResponseBody(response_type=DSResponseType.WELCOME_INFO, welcome_info=RATCHET_TREE),
            b"\2" + RATCHET_TREE,
        ),
        (
            DSResponseBody(
                response_type=DSResponseType.EXTERNAL_COMMIT_INFO,
                external_commit_info=ExternalCommitInfo(
                    group_info=GROUP_INFO_MESSAGE, ratchet_tree=RATCHET_TREE
                ),
            ),
            b"\3" + GROUP_INFO_MESSAGE + RATCHET_TREE,
        ),
        (
            DSResponseBody(response_type=DSResponseType.KEY_PACKAGES, key_packages=(KEY_PACKAGE,)),
            b"\4" + vec(KEY_PACKAGE),
        ),
    ],
)
def test_each_response_is_its_number_and_its_content(body: DSResponseBody, encoded: bytes) -> None:
    response = DSResponse(response_body=body)
    assert response.encode() == b"\1" + encoded
    assert DSResponse.decode(b"\1" + encoded) == response


@pytest.mark.parametrize(
    "encoded",
    [
        b"\2\5\0",  # another version
        b"\1\7\0",  # an operation that is none
        b"\1\5\2",  # an authentication that is none
        b"\1\5\0\0",  # something behind it
        b"\1\1\0\0",  # no proposals
        b"\1\2\0\0\0",  # no commits
        b"\1\3\0\0",  # no messages
        b"\1\4\0\0",  # no clients
        b"\1\1" + vec(COMMIT) + b"\0",  # a commit among the proposals
        b"\1\3" + vec(PROPOSAL) + b"\0",
        b"\1\0" + PROPOSAL + EXTENSIONS + vec(b"") + b"\0",
        b"\1\2" + vec(UPDATE_BYTES) + vec(COMMIT) + b"\0",  # no Welcome
    ],
)
def test_what_is_no_request_is_refused(encoded: bytes) -> None:
    with pytest.raises(MimiDecodeError):
        DSRequest.decode(encoded)


def test_a_group_info_that_is_none_is_refused() -> None:
    with pytest.raises(MimiDecodeError, match="group_info was expected"):
        DSResponse.decode(b"\1\3" + COMMIT + RATCHET_TREE)
