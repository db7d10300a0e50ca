"""The part of the contract about abuse reports, consent, and by what users can be found."""

from __future__ import annotations

from dataclasses import replace

from linearized.store.base import Store
from linearized.store.contacts import ANY_ROOM, ConsentRow, FieldRow, ReportRow
from tests.store.rows import ROOM

ALICE, BOB, CAROL = "@alice:a.example", "@bob:b.example", "@carol:c.example"
DAY = 24 * 3_600_000


def report(digest: str, *, provider: str = "b.example") -> ReportRow:
    return ReportRow(
        digest=digest,
        room_id=ROOM,
        provider=provider,
        reporter=BOB,
        abuser=ALICE,
        reason_code=0,
        note="néant",
        report=b"\x00report",
        event_id="",
        verified=1,
        received_at=5,
    )


def consent(room_id: str = ANY_ROOM, *, state: str = "requested", requester: str = BOB) -> ConsentRow:
    return ConsentRow(requester=requester, target=ALICE, room_id=room_id, state=state, changed_at=7)


def field(name: str, value: str, *, user_id: str = ALICE, source: int = 7) -> FieldRow:
    return FieldRow(user_id=user_id, source=source, name=name, value=value)


class ContactContract:
    """Reports, consents, fields."""

    async def test_a_report_is_kept_once_and_numbered(self, store: Store) -> None:
        first = await store.put_report(report("a"))
        assert await store.put_report(report("a")) is None
        second = await store.put_report(report("b", provider="c.example"))
        assert first is not None
        assert second is not None
        assert first < second
        assert store.report(first) == replace(report("a"), number=first)
        assert store.report(second + 1) is None
        assert [row.number for row in store.reports(closed=False, limit=9)] == [first, second]
        assert [row.number for row in store.reports(closed=False, limit=1)] == [first]
        assert store.reports(closed=False, limit=-1) == []
        assert (store.open_reports("b.example"), store.open_reports("d.example")) == (1, 0)

    async def test_a_report_is_closed_once_and_goes_after_a_quarter_of_a_year(self, store: Store) -> None:
        number = await store.put_report(report("a"))
        assert number is not None
        assert not await store.close_report(number + 1, DAY)
        assert await store.close_report(number, DAY)
        assert not await store.close_report(number, 2 * DAY)
        assert store.open_reports("b.example") == 0
        assert store.reports(closed=False, limit=9) == []
        assert store.reports(closed=True, limit=9) == [replace(report("a"), number=number, closed_at=DAY)]
        assert await store.put_report(report("a")) is None
        assert await store.expire(90 * DAY) == 0
        assert await store.expire(91 * DAY) == 1
        assert store.report(number) is None
        again = await store.put_report(report("a"))
        assert again is not None
        assert again > number

    async def test_an_open_report_does_not_expire(self, store: Store) -> None:
        await store.put_report(report("a"))
        assert await store.expire(10**15) == 0

    async def test_a_consent_is_kept_for_a_requester_a_target_and_a_room(self, store: Store) -> None:
        await store.put_consent(consent())
        await store.put_consent(consent(ROOM, state="granted"))
        await store.put_consent(consent(requester=CAROL))
        assert store.consent(BOB, ALICE, ANY_ROOM) == consent()
        assert store.consents(BOB, ALICE) == [consent(), consent(ROOM, state="granted")]
        assert store.consents(ALICE, BOB) == []
        assert store.waiting_consents(ALICE) == 2
        changed = replace(consent(), state="revoked", changed_at=9)
        await store.put_consent(changed)
        assert store.consents_of(ALICE, limit=9)[0] == changed
        assert len(store.consents_of(ALICE, limit=9)) == 3
        assert len(store.consents_of(BOB, limit=1)) == 1
        assert store.consents_of(BOB, limit=-1) == []
        assert store.waiting_consents(ALICE) == 1
        await store.delete_consent(BOB, ALICE, ANY_ROOM)
        await store.delete_consent(BOB, ALICE, ANY_ROOM)
        assert store.consent(BOB, ALICE, ANY_ROOM) is None

    async def test_the_key_packages_of_a_grant_are_handed_out_once(self, store: Store) -> None:
        await store.put_consent(replace(consent(state="granted"), key_packages=b"packages"))
        assert await store.take_key_packages(BOB, ALICE, ROOM) == b""
        assert await store.take_key_packages(BOB, ALICE, ANY_ROOM) == b"packages"
        assert await store.take_key_packages(BOB, ALICE, ANY_ROOM) == b""
        assert store.consent(BOB, ALICE, ANY_ROOM) == consent(state="granted")

    async def test_whether_a_user_asks_for_consent_is_kept(self, store: Store) -> None:
        assert store.consent_required(ALICE) is None
        for required in (True, False, True):
            await store.put_consent_required(ALICE, required=required)
            assert store.consent_required(ALICE) is required

    async def test_a_users_fields_are_replaced_as_a_whole(self, store: Store) -> None:
        await store.put_fields(ALICE, [field("given_name", "Alice"), field("email", "a@a.example")])
        await store.put_fields(BOB, [field("given_name", "Bob", user_id=BOB)])
        await store.put_fields(ALICE, [field("nickname", "al"), field("nickname", "al")])
        assert store.fields(ALICE) == [field("nickname", "al")]
        await store.put_fields(ALICE, [])
        assert store.fields(ALICE) == []
        assert store.fields(BOB) == [field("given_name", "Bob", user_id=BOB)]

    async def test_users_are_found_by_a_whole_value_or_by_a_part_of_one(self, store: Store) -> None:
        await store.put_fields(ALICE, [field("given_name", "Mathias"), field("ORG", "Äpfel AG", source=8)])
        await store.put_fields(BOB, [field("family_name", "Matali", user_id=BOB)])
        names = ("given_name", "family_name")
        assert store.find_exactly(7, names, "Mathias", limit=9) == [ALICE]
        assert store.find_exactly(7, names, "mathias", limit=9) == []
        assert store.find_exactly(8, names, "Mathias", limit=9) == []
        assert store.find_exactly(8, ("ORG",), "Äpfel AG", limit=9) == [ALICE]
        assert store.find_containing(names, "MAT", limit=9) == [ALICE, BOB]
        assert store.find_containing(names, "mat", limit=1) == [ALICE]
        assert store.find_containing(("given_name",), "mat", limit=9) == [ALICE]
        assert store.find_containing(None, "äpfel", limit=9) == [ALICE]
        assert store.find_containing(names, "äpfel", limit=9) == []
        assert store.find_containing(None, "%", limit=9) == []
