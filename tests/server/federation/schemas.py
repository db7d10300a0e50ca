"""Bodies held against the published JSON Schemas."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

DIRECTORY = Path(__file__).parents[3] / "schemas" / "federation"


@cache
def validator(name: str) -> Draft202012Validator:
    """The validator of one published schema."""
    schema = json.loads((DIRECTORY / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def check(name: str, body: Any) -> None:
    """Fail unless ``body`` matches the schema called ``name``."""
    validator(name).validate(body)
