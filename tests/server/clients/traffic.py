"""Checks every request and answer of the tests against the published JSON Schemas in ``schemas/client``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

SCHEMAS = Path(__file__).resolve().parents[3] / "schemas" / "client"
ERROR = "urn:linearized:client:error"


@functools.cache
def documents() -> dict[str, Any]:
    """Every schema, by its ID."""
    loaded = [orjson.loads(path.read_bytes()) for path in sorted(SCHEMAS.glob("*.json"))]
    return {document["$id"]: document for document in loaded}


@functools.cache
def endpoints() -> dict[str, str]:
    """The ID of the schema of each ``METHOD path``."""
    found: dict[str, str] = {}
    for schema_id, document in documents().items():
        for endpoint in document.get("x-endpoints", ()):
            assert endpoint not in found, f"two schemas for {endpoint}"
            found[endpoint] = schema_id
    return found


@functools.cache
def validator(reference: str) -> Draft202012Validator:
    """A validator for one schema, or for one definition in it."""
    registry: Registry[Any] = Registry().with_resources(
        (schema_id, Resource.from_contents(document)) for schema_id, document in documents().items()
    )
    return Draft202012Validator({"$ref": reference}, registry=registry)


def check(method: str, pattern: str, *, status: int, request: bytes, response: bytes) -> None:
    """Hold an exchange to its schemas: the request when it was accepted, the answer always."""
    if status != 200:
        validator(ERROR).validate(orjson.loads(response))
        return
    schema_id = endpoints().get(f"{method} {pattern}")
    if schema_id is None:
        return
    definitions = documents()[schema_id]["$defs"]
    if request and "request" in definitions:
        validator(f"{schema_id}#/$defs/request").validate(orjson.loads(request))
    validator(f"{schema_id}#/$defs/response").validate(orjson.loads(response))
