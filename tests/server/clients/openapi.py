"""``schemas/openapi.yaml``: the client API in one document, from its routes and ``schemas/client``.

``python -m tests.server.clients.openapi`` writes it; a test fails if it is not what would be written.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

from linearized import __version__
from linearized.server.clients import PRIVATE, PUBLIC
from tests.server.clients.traffic import SCHEMAS, documents, endpoints

OPENAPI: Final = SCHEMAS.parent / "openapi.yaml"
MEMBERS: Final = ("$schema", "$id", "title", "x-endpoints", "x-query", "x-headers", "x-content-type", "$defs")
"""Of a file in ``schemas/client``: what is about the file, and no schema itself."""


def name_of(schema_id: str) -> str:
    return schema_id.rpartition(":")[2]


def component(value: Any, owner: str) -> Any:
    """A schema with its references turned into references to components."""
    if isinstance(value, dict):
        return {
            key: reference(item, owner) if key == "$ref" else component(item, owner)
            for key, item in value.items()
        }
    return [component(item, owner) for item in value] if isinstance(value, list) else value


def reference(value: str, owner: str) -> str:
    document, _, place = value.partition("#")
    names = [name_of(document) if document else owner, *place.removeprefix("/$defs/").split("/")]
    return "#/components/schemas/" + ".".join(part for part in names if part)


def components() -> dict[str, Any]:
    """Every schema by name: ``sync.response`` is the response in ``sync.json``."""
    found: dict[str, Any] = {}
    for schema_id, document in documents().items():
        owner = name_of(schema_id)
        whole = {key: value for key, value in document.items() if key not in MEMBERS}
        if whole:
            found[owner] = {"title": document["title"], **component(whole, owner)}
        for part, schema in document.get("$defs", {}).items():
            found[f"{owner}.{part}"] = component(schema, owner)
    return found


def operation(method: str, pattern: str, *, public: bool) -> dict[str, Any]:
    schema_id = endpoints().get(f"{method} {pattern}")
    document = documents()[schema_id] if schema_id is not None else {}
    owner = name_of(schema_id or "")
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", pattern)
    ] + [
        {"name": name, "in": "query", **({"required": True} if schema.get("x-required") else {}),
         "schema": {key: value for key, value in schema.items() if key != "x-required"}}
        for name, schema in document.get("x-query", {}).items()
    ] + [
        {"name": name, "in": "header", "schema": schema}
        for name, schema in document.get("x-headers", {}).items()
    ]  # fmt: skip
    described: dict[str, Any] = {"summary": document.get("title", "A file")}
    if parameters:
        described["parameters"] = parameters
    if "request" in document.get("$defs", {}):
        body = {"$ref": f"#/components/schemas/{owner}.request"}
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    answer = (
        {
            document.get("x-content-type", "application/json"): {
                "schema": {"$ref": f"#/components/schemas/{owner}.response"}
            }
        }
        if document
        else {"application/octet-stream": {}}
    )
    described["responses"] = {
        "200": {"description": "Done", "content": answer},
        "default": {"$ref": "#/components/responses/error"},
    }
    if public:
        described["security"] = []
    return described


def openapi() -> dict[str, Any]:
    """The document."""
    paths: dict[str, dict[str, Any]] = {}
    for routes, public in ((PUBLIC, True), (PRIVATE, False)):
        for method, pattern, _ in routes:
            paths.setdefault(pattern, {})[method.lower()] = operation(method, pattern, public=public)
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/error"}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "linearized: the client API",
            "version": __version__,
            "description": "Matrix's client-server API as far as this server has it, and MLS beside it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components(),
            "responses": {"error": {"description": "What went wrong", "content": error}},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Plain(yaml.SafeDumper):
    """No anchors: each place says what it means."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def written() -> str:
    """The document as YAML."""
    return yaml.dump(openapi(), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=110)


def main(path: Path = OPENAPI) -> None:
    path.write_text(written(), encoding="utf-8")


if __name__ == "__main__":
    main()
