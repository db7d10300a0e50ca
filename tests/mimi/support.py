"""MLS bytes for tests: real ones from the working group's vectors, and small ones of every form there is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from linearized.mimi import mls_framing
from linearized.mimi.tls import encode_vector

VECTORS = Path(__file__).resolve().parent.parent / "vectors"


def real_messages() -> list[dict[str, bytes]]:
    """The cases of the MLS vectors, by name of the structure."""
    cases = json.loads((VECTORS / "mls" / "messages.json").read_text())["cases"]
    return [{name: bytes.fromhex(value) for name, value in case.items()} for case in cases]


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def vec(*parts: bytes) -> bytes:
    return encode_vector(b"".join(parts))


BASIC = u16(1) + vec(b"mimi://a.example/d/alice/ABC")
X509 = u16(2) + vec(vec(b"leaf certificate"), vec(b"issuer"))
CAPABILITIES = vec(u16(1)) + vec(u16(1), u16(2)) + vec() + vec(u16(8)) + vec(u16(1))
EXTENSIONS = vec(u16(10) + vec(b"external id"), u16(0xF000) + vec())


def leaf_node(source: bytes = b"\x02", credential: bytes = BASIC) -> bytes:
    return vec(b"enc") + vec(b"sig") + credential + CAPABILITIES + source + EXTENSIONS + vec(b"signature")


LEAF_SOURCES = {
    "key_package": b"\x01" + bytes(16),
    "update": b"\x02",
    "commit": b"\x03" + vec(b"parent hash"),
}
KEY_PACKAGE = (
    u16(1) + u16(1) + vec(b"init") + leaf_node(LEAF_SOURCES["key_package"]) + EXTENSIONS + vec(b"signature")
)
PSKS = {
    "external": b"\x01" + vec(b"psk") + vec(b"nonce"),
    "resumption": b"\x02\x01" + vec(b"group") + bytes(8) + vec(b"nonce"),
    "application": b"\x03" + u16(0x20) + vec(b"psk") + vec(b"nonce"),
}
PROPOSALS: dict[str, bytes] = {
    "add": u16(1) + KEY_PACKAGE,
    "update": u16(2) + leaf_node(),
    "remove": u16(3) + bytes(4),
    **{f"psk {name}": u16(4) + psk for name, psk in PSKS.items()},
    "reinit": u16(5) + vec(b"group") + u16(1) + u16(1) + EXTENSIONS,
    "external_init": u16(6) + vec(b"kem"),
    "group_context_extensions": u16(7) + EXTENSIONS,
    "app_data_update": u16(8) + u16(0x22) + b"\x01" + vec(b"update"),
    "app_data_update remove": u16(8) + u16(0x22) + b"\x02",
    "app_ephemeral": u16(9) + u16(0x22) + vec(b"data"),
    "self_remove": u16(10),
}
UPDATE_PATH = leaf_node(LEAF_SOURCES["commit"], X509) + vec(
    vec(b"node key") + vec(vec(b"kem") + vec(b"secret"), vec(b"kem") + vec(b"secret"))
)
COMMITS = {
    "without path": vec(b"\x01" + PROPOSALS["app_data_update"], b"\x02" + vec(b"reference")) + b"\x00",
    "with path": vec(b"\x01" + PROPOSALS["add"]) + b"\x01" + UPDATE_PATH,
}
SENDERS = {
    "member": b"\x01" + bytes(4),
    "external": b"\x02" + bytes(4),
    "new_member_proposal": b"\x03",
    "new_member_commit": b"\x04",
}


def public_message(content_type: int, content: bytes, sender: str = "member") -> bytes:
    """An MLSMessage(PublicMessage); ``content_type`` 3 is a commit."""
    tags = vec(b"confirmation") if content_type == 3 else b""
    membership = vec(b"membership") if sender == "member" else b""
    front = vec(b"mimi://a.example/g/clubhouse") + (7).to_bytes(8, "big") + SENDERS[sender] + vec(b"aad")
    return u16(1) + u16(1) + front + bytes([content_type]) + content + vec(b"signature") + tags + membership


def private_message(content_type: int = 1) -> bytes:
    """An MLSMessage(PrivateMessage)."""
    front = vec(b"mimi://a.example/g/clubhouse") + (7).to_bytes(8, "big") + bytes([content_type])
    return u16(1) + u16(2) + front + vec(b"aad") + vec(b"sender data") + vec(b"ciphertext")


PROPOSAL = public_message(2, PROPOSALS["self_remove"])
COMMIT = public_message(3, COMMITS["without path"])
PATH_COMMIT = public_message(3, COMMITS["with path"], "new_member_commit")
APPLICATION = private_message()
WELCOME = u16(1) + vec(vec(b"reference") + vec(b"kem") + vec(b"secrets")) + vec(b"encrypted group info")
GROUP_INFO = (
    (u16(1) + u16(1) + vec(b"group") + bytes(8) + vec(b"tree") + vec(b"transcript") + EXTENSIONS)
    + EXTENSIONS
    + vec(b"confirmation")
    + bytes(4)
    + vec(b"signature")
)
PARENT_NODE = b"\x02" + vec(b"key") + vec(b"hash") + vec(bytes(4))
RATCHET_TREE = vec(b"\x01\x01" + leaf_node(), b"\x01" + PARENT_NODE, b"\x00")

WALKS: dict[mls_framing.Walk, tuple[bytes, ...]] = {
    mls_framing.walk_mls_message: (
        *(public_message(2, content) for content in PROPOSALS.values()),
        *(public_message(2, PROPOSALS["remove"], sender) for sender in SENDERS),
        COMMIT,
        PATH_COMMIT,
        public_message(1, vec(b"application data")),
        *(private_message(content_type) for content_type in (1, 2, 3)),
        u16(1) + u16(3) + WELCOME,
        u16(1) + u16(4) + GROUP_INFO,
        u16(1) + u16(5) + KEY_PACKAGE,
    ),
    mls_framing.walk_public_proposal: (PROPOSAL, public_message(2, PROPOSALS["add"], "external")),
    mls_framing.walk_public_handshake: (PROPOSAL, COMMIT, PATH_COMMIT),
    mls_framing.walk_public_commit: (COMMIT, PATH_COMMIT),
    mls_framing.walk_welcome: (WELCOME,),
    mls_framing.walk_group_info: (GROUP_INFO,),
    mls_framing.walk_key_package: (KEY_PACKAGE,),
    mls_framing.walk_leaf_node: tuple(leaf_node(source) for source in LEAF_SOURCES.values()),
    mls_framing.walk_credential: (BASIC, X509),
    mls_framing.walk_capabilities: (CAPABILITIES,),
    mls_framing.walk_extensions: (EXTENSIONS, vec()),
    mls_framing.walk_ratchet_tree: (RATCHET_TREE, vec()),
    mls_framing.walk_proposal: tuple(PROPOSALS.values()),
}
"""Samples of what each ``walk_…`` passes."""


def samples() -> Iterator[tuple[mls_framing.Walk, bytes]]:
    """Every walk with every sample."""
    for walk, examples in WALKS.items():
        for example in examples:
            yield walk, example
