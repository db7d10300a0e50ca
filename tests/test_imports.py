"""Who may import whom: this test walks every import and fails on an arrow that is not the design's."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ALLOWED: dict[str, tuple[str, ...]] = {
    "linearized.protocol": ("linearized.protocol", "linearized.exceptions"),
    "linearized.mimi": ("linearized.mimi", "linearized.exceptions"),
    "linearized.room": (
        "linearized.room",
        "linearized.protocol",
        "linearized.mimi",
        "linearized.mls",
        "linearized.exceptions",
    ),
    "linearized.store": ("linearized.store", "linearized.protocol", "linearized.exceptions"),
    "linearized.client": (
        "linearized.client",
        "linearized.protocol",
        "linearized.mimi",
        # What a client checks a hub's signed log with.
        "linearized.room.checkpoint",
        "linearized.room.merkle",
        "linearized.room.parts",
        "linearized.room.segments",
        "linearized.room.vouching",
        "linearized.exceptions",
        "linearized.__version__",
    ),
    "bridges": (
        "bridges",
        "linearized.client",
        "linearized.mimi.content",
        "linearized.protocol.identifiers",
        "linearized.exceptions",
        "linearized.__version__",
    ),
}
"""Modules of this project each package may import (a name stands for everything below it)."""

FORBIDDEN: dict[str, tuple[str, ...]] = {"linearized.server": ("bridges",)}

PURE = ("linearized.protocol", "linearized.mimi", "linearized.room")
CODECS = frozenset({"orjson", "cbor2", "cryptography", "pyhpke", "canonicaljson", "signedjson", "zstandard"})
"""The only libraries outside the standard library that pure packages may import."""

SIGNING = "linearized.protocol.signing"
SIGNATURES = frozenset({"Ed25519Key", "ed25519_verify", "ed25519_verify_all"})
"""What one module takes from the MLS binding, whose other parts draw random numbers (decision 27)."""

IMPURE = frozenset(
    {
        "asyncio",
        "http",
        "os",
        "random",
        "secrets",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "threading",
        "time",
    }
)
"""Parts of the standard library that reach outside: clock, randomness, files, network, other threads."""


def imports_of(module: str, tree: ast.AST, *, is_package: bool = False) -> Iterator[str]:
    """Every imported name, dotted and absolute: ``from a.b import c`` gives ``a.b.c``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                package = parts[: len(parts) - node.level + is_package]
                base = ".".join([*package, *filter(None, [base])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def below(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def complaint(module: str, imported: str) -> str | None:
    """What is wrong with ``module`` importing ``imported``, if anything."""
    package = next((name for name in {*ALLOWED, *FORBIDDEN} if below(module, (name,))), None)
    if package is None:
        return None
    top = imported.partition(".")[0]
    if top in {"linearized", "bridges"}:
        if package in ALLOWED and not below(imported, ALLOWED[package]):
            return f"{module} imports {imported}"
        if below(imported, FORBIDDEN.get(package, ())):
            return f"{module} imports {imported}"
    elif package in PURE:
        if top in IMPURE:
            return f"{module} imports {imported}, which is not pure"
        lent = {f"openmls.{name}" for name in SIGNATURES} if module == SIGNING else set()
        if top not in sys.stdlib_module_names and top not in CODECS and imported not in lent:
            return f"{module} imports {imported}, which is no codec"
    return None


def modules() -> Iterator[tuple[str, Path]]:
    for package in ("linearized", "bridges"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def test_no_module_imports_what_its_package_may_not() -> None:
    found = list(modules())
    assert len(found) > 1
    complaints = [
        text
        for module, path in found
        for imported in imports_of(
            module, ast.parse(path.read_text(encoding="utf-8")), is_package=path.name == "__init__.py"
        )
        if (text := complaint(module, imported)) is not None
    ]
    assert complaints == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("linearized.protocol.events", "import time"),
        ("linearized.mimi.tls", "from os import path"),
        ("linearized.room.log", "import trio"),
        ("linearized.room.log", "def f():\n    import secrets"),
        ("linearized.room.log", "from linearized.store.base import Store"),
        ("linearized.room.log", "from ..server import node"),
        ("linearized.protocol.events", "from linearized.mimi import tls"),
        ("linearized.mimi.tls", "from linearized import config"),
        ("linearized.mimi.tls", "from openmls import ed25519_verify"),
        ("linearized.protocol.signing", "from openmls import SignatureKeyPair"),
        ("linearized.protocol.signing", "import openmls"),
        ("linearized.store.sqlite", "import linearized.server.node"),
        ("linearized.server.node", "from bridges.matrix import ghosts"),
        ("linearized.client.api", "from linearized.room.submissions import Reason"),
        ("bridges.matrix.ghosts", "from linearized.config import Config"),
        ("bridges.matrix.ghosts", "from linearized.mimi.contents import x"),
        ("bridges.matrix", "from linearized.protocol import canonical"),
    ],
)
def test_a_forbidden_arrow_is_found(module: str, source: str) -> None:
    assert [complaint(module, name) for name in imports_of(module, ast.parse(source))] != [None]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("linearized.protocol.events", "import orjson, hashlib"),
        ("linearized.room.log", "from linearized.mls import Mls"),
        ("linearized.store.sqlite", "import sqlite3, trio"),
        ("linearized.server.node", "from linearized.client import api"),
        ("linearized.client.api", "import trio, httpx, openmls"),
        ("bridges.matrix.ghosts", "from .intents import Intent\nfrom linearized.client import Client"),
        ("linearized.cli", "from bridges.matrix import run"),
    ],
)
def test_an_allowed_arrow_is_left_alone(module: str, source: str) -> None:
    assert {complaint(module, name) for name in imports_of(module, ast.parse(source))} == {None}


def test_relative_imports_are_made_absolute_in_modules_and_packages() -> None:
    tree = ast.parse("from . import a\nfrom .b import c\nfrom ..d import e")
    assert list(imports_of("x.y.z", tree)) == ["x.y.a", "x.y.b.c", "x.d.e"]
    assert list(imports_of("x.y", tree, is_package=True)) == ["x.y.a", "x.y.b.c", "x.d.e"]


@pytest.mark.parametrize("face", ["clients", "federation", "providers"])
def test_each_face_can_be_imported_first(face: str) -> None:
    command = [sys.executable, "-c", f"import linearized.server.{face}"]
    subprocess.run(command, check=True, cwd=ROOT)  # noqa: S603 - our own interpreter and modules
