"""Finding a user's URI at another provider (draft-ietf-mimi-protocol-06, "Find internal address")."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from linearized.mimi.app_data import NO_APP_DATA, AppDataDictionary
from linearized.mimi.tls import (
    MAX_URI_BYTES,
    Bytes,
    Enumeration,
    String,
    Struct,
    Text,
    UnknownValue,
    Uri,
    Vector,
    When,
)


class SearchIdentifierType(IntEnum):
    """What a query element searches; the select has no default, so no other can be read."""

    HANDLE = 1
    NICK = 2
    EMAIL = 3
    PHONE = 4
    PARTIAL_NAME = 5
    WHOLE_PROFILE = 6
    OIDC_STD_CLAIM = 7
    VCARD_FIELD = 8


class IdentifierQueryCode(IntEnum):
    """How the query went."""

    SUCCESS = 0
    NOT_FOUND = 1
    AMBIGUOUS = 2
    FORBIDDEN = 3
    UNSUPPORTED_FIELD = 4


class FieldSource(IntEnum):
    """The vocabulary a profile field's name is from."""

    OIDC_STD_CLAIM = 7
    VCARD_FIELD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryElement(Struct):
    """One condition; ``claim_name`` and ``property_name`` go with the search types named after them."""

    search_type: Annotated[SearchIdentifierType, Enumeration(SearchIdentifierType)]
    claim_name: Annotated[str | None, When("search_type", (SearchIdentifierType.OIDC_STD_CLAIM,), Text())] = (
        None
    )
    property_name: Annotated[str | None, When("search_type", (SearchIdentifierType.VCARD_FIELD,), Text())] = (
        None
    )
    search_value: String


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifierRequest(Struct):
    """The body of ``POST /identifierQuery/{domain}``; all elements "have to match (AND semantics)"."""

    query_elements: Annotated[tuple[QueryElement, ...], Vector(QueryElement)]
    extensions: AppDataDictionary = NO_APP_DATA


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileField(Struct):
    """One field of a found profile."""

    source: Annotated[FieldSource | UnknownValue, Enumeration(FieldSource, extensible=True, reserved=(0,))]
    name: String
    value: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class UserProfile(Struct):
    """A user the query found."""

    stable_uri: Uri
    fields: Annotated[tuple[ProfileField, ...], Vector(ProfileField)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifierResponse(Struct):
    """The answer: user URIs, and as much of their profiles as the provider shows."""

    code: Annotated[IdentifierQueryCode | UnknownValue, Enumeration(IdentifierQueryCode, extensible=True)]
    uris: Annotated[tuple[str, ...], Vector(Text("ascii", MAX_URI_BYTES))] = ()
    found_profiles: Annotated[tuple[UserProfile, ...], Vector(UserProfile)] = ()
    extensions: AppDataDictionary = NO_APP_DATA
