"""What the documents tell people to type exists."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from linearized.cli import main

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "docs/operator.md", "docs/history.md")


def typed(document: str) -> Iterator[str]:
    """The commands in a document's shell blocks and in its inline code."""
    text = (ROOT / document).read_text(encoding="utf-8")
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            yield from (part.strip() for part in line.split("#")[0].split("&") if part.strip())
    yield from re.findall(
        r"`((?:linearized|make) [a-z][^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    )


COMMANDS = sorted({(document, command) for document in DOCUMENTS for command in typed(document)})


def test_the_documents_hold_commands() -> None:
    assert {command.split()[0] for _, command in COMMANDS} >= {"linearized", "make"}


@pytest.mark.parametrize(
    ("document", "command"), [pair for pair in COMMANDS if pair[1].startswith("linearized ")]
)
def test_a_linearized_command_exists_with_its_options(document: str, command: str) -> None:
    words = shlex.split(command)[1:]
    found: click.Command = main
    while isinstance(found, click.Group):
        name = words.pop(0)
        context = click.Context(found)
        next_command = found.get_command(context, name)
        assert next_command is not None, f"{document}: there is no {command!r}"
        found = next_command
    options = {option for parameter in found.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize(("document", "command"), [pair for pair in COMMANDS if pair[1].startswith("make ")])
def test_a_make_target_exists(document: str, command: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert command.split()[1] in targets, document


@pytest.mark.parametrize(
    "document", ["README.md", "docs/operator.md", "docs/dependencies.md", "CHANGELOG.md"]
)
def test_links_between_documents_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{document} links to {target}"


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    listed = [re.split(r"[\[<>=]", requirement)[0] for requirement in requirements]
    reasons = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8").lower()
    assert [name for name in listed if name.lower() not in reasons] == []
