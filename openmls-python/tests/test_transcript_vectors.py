"""Transcript hashes (RFC 9420 section 8.2) of the official vectors and of our own groups, computed apart."""

import hmac
import json
from pathlib import Path
from typing import TypedDict

import pytest

import openmls
from forge import HEADER, split_commit, vector
from openmls import Client, GroupInfoDetails, PublicGroup, group_info_details, inspect_message, reencode

WIRE_FORMAT_PUBLIC = HEADER[2:]
WEEK = 7 * 24 * 3600


class Case(TypedDict):
    """One official commit; hexadecimal."""

    cipher_suite: int
    confirmation_key: str
    authenticated_content: str
    interim_transcript_hash_before: str
    confirmed_transcript_hash_after: str
    interim_transcript_hash_after: str


CASES: list[Case] = json.loads((Path(__file__).parent / "vectors" / "transcript-hashes.json").read_text())[
    "cases"
]


def confirmed(suite: int, interim_before: bytes, commit: bytes) -> bytes:
    """Hash(interim_transcript_hash[n-1] || ConfirmedTranscriptHashInput[n])."""
    content, signature, _ = split_commit(commit)
    return openmls.hash(suite, interim_before + WIRE_FORMAT_PUBLIC + content + vector(signature))


def interim(suite: int, confirmed_hash: bytes, confirmation_tag: bytes) -> bytes:
    """Hash(confirmed_transcript_hash[n] || InterimTranscriptHashInput[n])."""
    return openmls.hash(suite, confirmed_hash + vector(confirmation_tag))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"suite {case['cipher_suite']}")
def test_official_transcript_hashes_and_confirmation_tags(case: Case) -> None:
    suite, content = case["cipher_suite"], bytes.fromhex(case["authenticated_content"])
    assert content.startswith(WIRE_FORMAT_PUBLIC)
    message = HEADER[:2] + content + vector(b"membership tag")
    assert inspect_message(message).content_type == "commit"
    assert reencode(message) == message

    hash_after = confirmed(suite, bytes.fromhex(case["interim_transcript_hash_before"]), message)
    assert hash_after.hex() == case["confirmed_transcript_hash_after"]
    # confirmation_tag = MAC(confirmation_key, GroupContext.confirmed_transcript_hash), RFC 9420 section 6.1
    tag = hmac.digest(bytes.fromhex(case["confirmation_key"]), hash_after, "sha256")
    assert split_commit(message)[2] == tag
    assert interim(suite, hash_after, tag).hex() == case["interim_transcript_hash_after"]


@pytest.mark.parametrize("suite", [1, 2, 3])
def test_our_groups_have_the_transcript_hashes_that_their_commits_lead_to(suite: int, now: int) -> None:
    alice, bob, carol = (Client.create(identity=name, ciphersuite=suite) for name in (b"a", b"b", b"c"))
    group = alice.create_group(group_id=b"group")
    group_info, tree = group.group_info()
    hub = PublicGroup.observe(group_info=group_info, ratchet_tree=tree)
    before = group_info_details(group_info)
    # RFC 9420 section 8.2: "confirmed_transcript_hash_[0] = ""; /* zero-length octet string */"
    assert before.confirmed_transcript_hash == b""

    def follow(commit: bytes, before: GroupInfoDetails, after: GroupInfoDetails) -> None:
        staged = hub.stage_commit(commit)
        hub.merge(staged)
        assert split_commit(commit)[2] == staged.confirmation_tag == after.confirmation_tag
        past = interim(suite, before.confirmed_transcript_hash, before.confirmation_tag)
        assert confirmed(suite, past, commit) == after.confirmed_transcript_hash
        assert vector(after.confirmed_transcript_hash) in hub.group_context()

    for add in ([], [bob.key_package(now=now, lifetime=WEEK)], []):
        bundle = group.commit(add=add)
        group.merge_pending_commit()
        after = group_info_details(bundle.group_info)
        follow(bundle.commit, before, after)
        before = after
    _, bundle = carol.join_external(group_info=bundle.group_info, ratchet_tree=bundle.ratchet_tree)
    follow(bundle.commit, before, group_info_details(bundle.group_info))
