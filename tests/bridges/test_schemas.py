from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from bridges.matrix import registration
from bridges.matrix.rendering import SendEvent
from linearized.mimi.content import ExternalPart, MimiContent, edit, reaction, reply, text
from tests.bridges.test_config import load
from tests.bridges.test_content import ID, ROOT
from tests.bridges.test_rendering import SALT, acts

ROOT_DIRECTORY = Path(__file__).resolve().parents[2]
VECTORS = ROOT_DIRECTORY / "tests" / "vectors" / "synapse-appservice"


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((ROOT_DIRECTORY / "schemas" / "bridge" / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_registration_is_what_its_schema_says(tmp_path: Path) -> None:
    validator("registration").validate(registration(load(tmp_path)))
    with pytest.raises(ValidationError):
        validator("registration").validate({**registration(load(tmp_path)), "rate_limited": True})


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.json")), ids=lambda path: path.stem)
def test_captured_transactions_are_what_their_schema_says(path: Path) -> None:
    for request in json.loads(path.read_text())["requests"]:
        if "/transactions/" in request["path"]:
            validator("transaction").validate(request["body"])


MESSAGES: list[MimiContent] = [
    text("plain", salt=SALT),
    text("**bold** [a](mimi://hs.test/u/alice)", salt=SALT, markdown=True),
    reply(ID, "answer", salt=SALT),
    MimiContent(salt=SALT, topic_id=ROOT, part=text("in a thread", salt=SALT).part),
    edit(ID, "_new_", salt=SALT, markdown=True),
    reaction(ID, "👍", salt=SALT),
    MimiContent(salt=SALT, part=ExternalPart(content_type="image/png", url="u", filename="f")),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_what_ghosts_send_is_what_its_schema_says(message: MimiContent) -> None:
    sent: list[Any] = [
        act.content for act in acts(message, uploads={"u": "mxc://hs.test/f"}) if isinstance(act, SendEvent)
    ]
    assert sent
    for content in sent:
        validator("matrix_message").validate(content)
