"""Identifier queries and their answers."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.identifier_query import (
    NAMES,
    FieldSource,
    IdentifierQueryCode,
    IdentifierRequest,
    IdentifierResponse,
    ProfileField,
    QueryElement,
    Search,
    SearchIdentifierType,
    UserProfile,
    search_of,
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


def element(kind: SearchIdentifierType, value: str = "value", **names: str) -> QueryElement:
    return QueryElement(search_type=kind, search_value=value, **names)


@pytest.mark.parametrize(
    ("asked", "exact"),
    [
        (element(SearchIdentifierType.HANDLE), ((1, ("handle",)),)),
        (
            element(SearchIdentifierType.NICK),
            ((1, ("user",)), (7, ("nickname", "preferred_username")), (8, ("NICKNAME",))),
        ),
        (element(SearchIdentifierType.EMAIL), ((7, ("email",)), (8, ("EMAIL",)))),
        (element(SearchIdentifierType.PHONE), ((7, ("phone_number",)), (8, ("TEL",)))),
        (element(SearchIdentifierType.OIDC_STD_CLAIM, claim_name="given_name"), ((7, ("given_name",)),)),
        (element(SearchIdentifierType.VCARD_FIELD, property_name="ORG"), ((8, ("ORG",)),)),
    ],
)
def test_where_a_whole_value_is_looked_for(
    asked: QueryElement, exact: tuple[tuple[int, tuple[str, ...]], ...]
) -> None:
    assert search_of(asked) == Search(exact=exact, value="value")


def test_where_a_part_of_a_value_is_looked_for() -> None:
    assert search_of(element(SearchIdentifierType.PARTIAL_NAME)) == Search(within=NAMES, value="value")
    assert search_of(element(SearchIdentifierType.WHOLE_PROFILE)) == Search(within=None, value="value")


@pytest.mark.parametrize("kind", [SearchIdentifierType.PARTIAL_NAME, SearchIdentifierType.WHOLE_PROFILE])
def test_a_part_that_is_too_short_is_ambiguous(kind: SearchIdentifierType) -> None:
    assert search_of(element(kind, "ab")) is IdentifierQueryCode.AMBIGUOUS
    assert isinstance(search_of(element(kind, "abc")), Search)


@pytest.mark.parametrize(
    "asked",
    [
        element(SearchIdentifierType.OIDC_STD_CLAIM, claim_name="birthdate"),
        element(SearchIdentifierType.OIDC_STD_CLAIM, claim_name="ORG"),
        element(SearchIdentifierType.VCARD_FIELD, property_name="BDAY"),
    ],
)
def test_a_field_nobody_is_found_by_is_unsupported(asked: QueryElement) -> None:
    assert search_of(asked) is IdentifierQueryCode.UNSUPPORTED_FIELD
