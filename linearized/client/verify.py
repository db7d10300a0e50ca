"""Checking a room's log without trusting the server that tells it.

Everything is derived again from the first entry: event IDs, the chain of ``prev_events``, hashes and
signatures, the authorization of every event by the state before it, and the MLS group, commit by commit,
from the initial state that the first one carries. What a server left out or changed shows, as long as it
does not hold the others' keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import openmls
import orjson

from linearized.client.api import ProviderApi
from linearized.client.app_data import new_app_data
from linearized.client.errors import MalformedAnswer, UntrustedAnswer
from linearized.client.transport import JsonObject
from linearized.exceptions import InvalidInput
from linearized.protocol.authorization import authorize, select_auth_events
from linearized.protocol.base64 import decode_base64
from linearized.protocol.events import Event, parse_signed
from linearized.protocol.signing import Claim, check_claims, verify_json
from linearized.protocol.state import hub_of
from linearized.protocol.verify import event_claims, intact_or_redacted
from linearized.protocol.versions import RoomVersion, get_version
from linearized.room.checkpoint import Checkpoint, verify_checkpoint
from linearized.room.leaves import identify
from linearized.room.merkle import Frontier, entry_leaf, verify_inclusion
from linearized.room.parts import INITIAL_GROUP, PartWalk
from linearized.room.vouching import Said, VouchWalk, said_by_commit, said_by_proposals

KeyLookup = Callable[[str, str], bytes | None]
# Entries asked for at once; the server may give fewer.
LOG_PAGE = 200
_ED25519 = "ed25519:"


class LogBroken(UntrustedAnswer):
    """The first entry that is not as it must be.

    Attributes:
        seq: its place in the log, from 1 on.
        reason: what is wrong with it.
    """

    def __init__(self, seq: int, reason: str) -> None:
        super().__init__(f"entry {seq}: {reason}")
        self.seq = seq
        self.reason = reason


@dataclass(slots=True, kw_only=True)
class LogReport:
    """What was checked: entries by type, how many were imported, commits, and the epoch at the end."""

    room_id: str = ""
    hub: str = ""
    entries: int = 0
    imported: int = 0
    commits: int = 0
    epoch: int | None = None
    head: str | None = None
    types: Counter[str] = field(default_factory=Counter)
    tree: Frontier = field(default_factory=Frontier)


@dataclass(slots=True)
class Run:
    """Neighbouring entries from number ``first`` on, checked but for their signatures; ``entries``, ``root``
    and ``hub`` are the log's length, its Merkle root and its hub after the last.
    """

    first: int
    events: list[Event] = field(default_factory=list)
    claims: list[tuple[int, Claim]] = field(default_factory=list)
    entries: int = 0
    root: bytes = b""
    hub: str = ""

    def settle(self) -> None:
        """Check the signatures. Other threads run meanwhile.

        Raises:
            LogBroken: the first entry with a wrong one.
        """
        wrong = check_claims([claim for _, claim in self.claims])
        for (seq, _), error in zip(self.claims, wrong, strict=True):
            if error is not None:
                raise LogBroken(seq, str(error)) from error
        self.claims.clear()

    def note(self, report: LogReport) -> None:
        """Keep what is true after the last entry."""
        self.entries, self.root, self.hub = report.entries, report.tree.root(), report.hub


class LogVerifier:
    """Takes a log's entries in order, page by page; ``report`` is true of all taken so far.

    Args:
        keys: the raw Ed25519 key (32 bytes) of a server by key ID, ``None`` if it is not known.
    """

    def __init__(self, keys: KeyLookup) -> None:
        self._keys = keys
        self._state: dict[tuple[str, str], Event] = {}
        self._version: RoomVersion | None = None
        self._group: openmls.PublicGroup | None = None
        self._parts = PartWalk()
        self._vouched = VouchWalk()
        self.report = LogReport()

    def take(self, pdu: JsonObject) -> Event:
        """Check the next entry.

        Raises:
            LogBroken: it, or its place, is wrong. Nothing more can be taken then.
        """
        run = self.derive([pdu])
        run.settle()
        return run.events[0]

    def derive(self, pdus: Sequence[JsonObject | bytes]) -> Run:
        """Check the next entries in all but their signatures, which the run's ``settle`` checks all at once,
        in any thread: nothing of them may be believed before. ``report`` runs ahead until then.

        Those given as bytes are to be in the form they were signed in, canonical JSON.

        Raises:
            LogBroken: as ``take``.
        """
        run = Run(first=self.report.entries + 1)
        for pdu in pdus:
            seq = self.report.entries + 1
            try:
                event = self._check(pdu, run)
            except (InvalidInput, openmls.MlsError) as error:
                # What stands before it may be wrong, too, and is to be named first.
                run.settle()
                raise LogBroken(seq, str(error)) from error
            self._count(event)
            run.events.append(event)
        run.note(self.report)
        return run

    def end(self) -> None:
        """Say that this was all: what a handshake brings about is in a log together with that.

        Raises:
            LogBroken: it ends in between.
        """
        if self._vouched.waiting:
            raise LogBroken(self.report.entries, "the handshake that it names is not in the log")

    def _check(self, entry: JsonObject | bytes, run: Run) -> Event:
        pdu, text = (_decoded(entry), entry) if isinstance(entry, bytes) else (entry, None)
        version = self._version or _version_of(pdu)
        event, signed = parse_signed(pdu, version, text=text)
        expected = () if self.report.head is None else (self.report.head,)
        if event.prev_events != expected:
            raise UntrustedAnswer("prev_events is not the entry before")
        if self.report.room_id and event.room_id != self.report.room_id:
            raise UntrustedAnswer("the entry is of another room")
        if intact_or_redacted(event, version=version).redacted:
            raise UntrustedAnswer("a content hash does not match")
        claims = event_claims(event, version=version, keys=self._keys, signed=signed)
        run.claims.extend((run.first + len(run.events), claim) for claim in claims)
        authorize(event, self._state, version=version, first_commit_seen=self._group is not None)
        if event.type != "m.room.create" and set(event.auth_events) != set(
            self._expected_auth(event, version)
        ):
            raise UntrustedAnswer("auth_events are not the current state")
        content = self._parts.take(event.type, event.content)
        if event.type == "m.mls.commit":
            self._commit(event, content)
        elif event.type == "m.mls.proposal":
            self._propose(event)
        else:
            self._vouched.event(event, self._state)
        if event.type == "m.room.encrypted":
            self._ciphertext(event)
        self._version = version
        return event

    def _expected_auth(self, event: Event, version: RoomVersion) -> list[str]:
        return select_auth_events(
            type=event.type,
            state_key=event.state_key,
            sender=event.sender,
            content=event.content,
            state=self._state,
            version=version,
        )

    def _commit(self, event: Event, content: JsonObject) -> None:
        message = _binary(content, "message")
        if self._group is None:
            initial = content.get(INITIAL_GROUP)
            if not isinstance(initial, dict):
                raise UntrustedAnswer("the first commit has no initial group")
            self._group = openmls.PublicGroup.observe(
                group_info=_binary(initial, "group_info"), ratchet_tree=_binary(initial, "ratchet_tree")
            )
        group = self._group
        values = new_app_data(group.app_data(), group.app_data_updates(message))
        staged = group.stage_commit(message, new_app_data=values, now=event.origin_server_ts // 1000)
        group.verify_group_info(staged=staged, group_info=_binary(content, "public_group_state"))
        if (committer := identify(staged.committer).user_id) != event.sender:
            raise UntrustedAnswer(f"the commit was signed by {committer}")

        def said() -> Said:
            present = {identify(member).user_id for member in staged.members}
            return said_by_commit(group, staged, present=present, hub=hub_of(self._state))

        self._vouched.commit(event, content, said)
        group.merge(staged)

    def _propose(self, event: Event) -> None:
        more = event.content.get("more_proposals", [])
        if self._group is None or not isinstance(more, list):
            raise UntrustedAnswer("a proposal before there is a group, or no list of proposals")
        group = self._group
        known = {proposal.reference for proposal in group.proposals()}
        for message in (event.content, *({"message": one} for one in more)):
            group.add_proposal(_binary(message, "message"), now=event.origin_server_ts // 1000)
        new = [proposal for proposal in group.proposals() if proposal.reference not in known]
        self._vouched.proposals(
            event, lambda: said_by_proposals(group, new, sender=event.sender, state=self._state)
        )

    def _ciphertext(self, event: Event) -> None:
        info = openmls.inspect_message(_binary(event.content, "ciphertext"))
        if self._group is None or info.group_id != self._group.group_id or info.epoch != self._group.epoch:
            raise UntrustedAnswer("a message is not of the group's epoch at its place")

    def _count(self, event: Event) -> None:
        report = self.report
        if event.state_key is not None:
            self._state[event.type, event.state_key] = event
            report.hub = hub_of(self._state)
        report.room_id, report.head = event.room_id, event.event_id
        report.entries += 1
        report.tree.append(entry_leaf(event.event_id))
        report.imported += event.imported
        report.commits += event.type == "m.mls.commit"
        report.epoch = None if self._group is None else self._group.epoch
        report.types[event.type] += 1


def verify_log(pdus: Iterable[JsonObject], keys: KeyLookup) -> LogReport:
    """Check a room's whole log, the create event first.

    Raises:
        LogBroken: the first entry that is wrong, and how.
    """
    verifier = LogVerifier(keys)
    for pdu in pdus:
        verifier.take(pdu)
    return verifier.report


async def fetch_and_verify(api: ProviderApi, room_id: str, keys: KeyLookup) -> LogReport:
    """Read a room's log from its hub, page by page, and check it to its head.

    Raises:
        LogBroken: an entry is wrong, or the server tells fewer than it says there are.
        ApiError, ServerUnreachable: it does not tell at all.
    """
    verifier = LogVerifier(keys)
    while True:
        done = verifier.report.entries
        page = await api.log(room_id, after=done, limit=LOG_PAGE)
        if done >= page.head_seq:
            verifier.end()
            return verifier.report
        if not page.pdus or page.first_seq != done + 1:
            raise LogBroken(done + 1, "the server does not tell this entry")
        for pdu in page.pdus:
            verifier.take(pdu)


async def check_signed(api: ProviderApi, report: LogReport, keys: KeyLookup) -> Checkpoint:
    """Check that a log that was read and verified is the one its hub signs for; the signed checkpoint.

    Keep it: if the hub ever signs another root for that size, the two are the proof.

    Raises:
        LogBroken: the hub signs another log.
        ProofError, SignatureError: what came is no checkpoint of the hub's.
        ApiError, ServerUnreachable: it does not tell at all.
    """
    signed = await _checkpoint(api, report.room_id, report.hub, keys, report.entries)
    if (signed.size, signed.root) != (report.entries, report.tree.root()):
        raise LogBroken(report.entries, "the hub signs another log than it tells")
    return signed


async def check_included(
    api: ProviderApi, room_id: str, event_id: str, *, hub: str, keys: KeyLookup
) -> tuple[int, Checkpoint]:
    """Check that one event that was read is in the log that the hub signs for.

    Returns:
        Its place in the hub's log, and the checkpoint that it is proved against.

    Raises:
        ProofError, SignatureError: it is not shown to be.
        ApiError, ServerUnreachable: as ``check_signed``.
    """
    signed = await _checkpoint(api, room_id, hub, keys, None)
    proof = await api.inclusion(room_id, event_id, size=signed.size)
    verify_inclusion(entry_leaf(event_id), proof.seq - 1, signed.size, proof.path, signed.root)
    return proof.seq, signed


async def _checkpoint(
    api: ProviderApi, room_id: str, hub: str, keys: KeyLookup, size: int | None
) -> Checkpoint:
    answer = await api.checkpoint(room_id, size=size)
    key = keys(hub, answer.key_id)
    known = {answer.key_id: key} if key is not None else {}
    return verify_checkpoint(answer.note, hub=hub, room_id=room_id, keys=known)


def server_keys(answer: JsonObject) -> dict[tuple[str, str], bytes]:
    """The keys in an answer of ``GET /_matrix/key/v2/server``, checked against the server's own signature.

    Returns raw Ed25519 keys by (server name, key ID). That the server has the name it says it has, the
    connection it came over must prove.

    Raises:
        MalformedAnswer: it is no such answer.
        SignatureError: it is not signed with the keys it lists.
    """
    name, listed = answer.get("server_name"), answer.get("verify_keys")
    if not isinstance(name, str) or not isinstance(listed, dict):
        raise MalformedAnswer("the server's keys have no server_name or verify_keys")
    keys: dict[str, bytes] = {}
    for key_id, value in listed.items():
        key = value.get("key") if isinstance(value, dict) else None
        if key_id.startswith(_ED25519) and isinstance(key, str):
            keys[key_id] = decode_base64(key)
    verify_json(answer, name=name, keys=keys)
    return {(name, key_id): key for key_id, key in keys.items()}


def _decoded(text: bytes) -> JsonObject:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UntrustedAnswer("it is not JSON") from error
    if not isinstance(value, dict):
        raise UntrustedAnswer("it is no object")
    return value


def _version_of(pdu: JsonObject) -> RoomVersion:
    content = pdu.get("content")
    if pdu.get("type") != "m.room.create" or not isinstance(content, dict):
        raise UntrustedAnswer("the log does not begin with the room's creation")
    return get_version(content.get("room_version"))


def _binary(content: JsonObject, name: str) -> bytes:
    value = content.get(name)
    if not isinstance(value, str):
        raise UntrustedAnswer(f"{name!r} is missing")
    return decode_base64(value)
