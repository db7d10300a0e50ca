"""The client API in one document: what is written is what is served."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from linearized.server.clients import PRIVATE, PUBLIC
from tests.server.clients.openapi import OPENAPI, openapi, written


def test_the_document_is_what_the_routes_and_schemas_say() -> None:
    assert OPENAPI.read_text(encoding="utf-8") == written(), "python -m tests.server.clients.openapi"
    assert yaml.safe_load(OPENAPI.read_text(encoding="utf-8")) == openapi()


def test_every_endpoint_is_in_it() -> None:
    described = {
        f"{method.upper()} {path}" for path, methods in openapi()["paths"].items() for method in methods
    }
    assert described == {f"{method} {pattern}" for method, pattern, _ in (*PUBLIC, *PRIVATE)}


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in references(item)]
    return [found for item in value for found in references(item)] if isinstance(value, list) else []


def test_every_reference_leads_somewhere() -> None:
    document = openapi()
    for reference in references(document):
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


@pytest.mark.parametrize("name", sorted(openapi()["components"]["schemas"]))
def test_every_component_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(openapi()["components"]["schemas"][name])


def test_an_open_endpoint_needs_no_token_and_any_other_does() -> None:
    paths = openapi()["paths"]
    assert paths["/_matrix/client/v3/login"]["post"]["security"] == []
    assert "security" not in paths["/_matrix/client/v3/sync"]["get"]
