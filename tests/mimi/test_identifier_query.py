"""Identifier queries and their answers."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.identifier_query import (
    FieldSource,
    IdentifierQueryCode,
    IdentifierRequest,
    IdentifierResponse,
    ProfileField,
    QueryElement,
    SearchIdentifierType,
    UserProfile,
)
from linearized.mimi.tls import UnknownValue


def test_only_claims_and_vcard_fields_are_named() -> None:
    request = IdentifierRequest(
        query_elements=(
            QueryElement(search_type=SearchIdentifierType.NICK, search_value="alice"),
            QueryElement(
                search_type=SearchIdentifierType.OIDC_STD_CLAIM, claim_name="given_name", search_value="Alice"
            ),
            QueryElement(search_type=SearchIdentifierType.VCARD_FIELD, property_name="ORG", search_value="A"),
        )
    )
    elements = b"\x02\x05alice" + b"\x07\x0agiven_name\x05Alice" + b"\x08\x03ORG\x01A"
    assert request.encode() == bytes([len(elements)]) + elements + b"\x00"
    assert IdentifierRequest.decode(request.encode()) == request


@pytest.mark.parametrize("number", [0, 9])
def test_an_unknown_search_is_refused(number: int) -> None:
    with pytest.raises(MimiDecodeError, match="is not a SearchIdentifierType"):
        QueryElement.decode(bytes([number]) + b"\x00")


def test_an_answer_has_uris_and_profiles() -> None:
    response = IdentifierResponse(
        code=IdentifierQueryCode.SUCCESS,
        uris=("u",),
        found_profiles=(
            UserProfile(
                stable_uri="u",
                fields=(ProfileField(source=FieldSource.VCARD_FIELD, name="ORG", value=b"A"),),
            ),
        ),
    )
    assert response.encode() == b"\x00" + b"\x02\x01u" + b"\x0a\x01u\x07\x08\x03ORG\x01A" + b"\x00"
    assert IdentifierResponse.decode(response.encode()) == response


def test_codes_and_sources_from_the_future_are_kept() -> None:
    assert IdentifierResponse.decode(b"\x63\x00\x00\x00").code == UnknownValue(99)
    assert ProfileField.decode(b"\x63\x00\x00").source == UnknownValue(99)
    with pytest.raises(MimiDecodeError, match="0 is not a FieldSource"):
        ProfileField.decode(b"\x00\x00\x00")
