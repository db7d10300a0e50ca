from __future__ import annotations

import httpx
import pytest

from bridges.matrix.doubles.login import CODE_MS
from linearized.client import ServerUnreachable, transport
from linearized.mimi.content import MimiContent, MultiPart, PartSemantics, SinglePart, edit
from tests.bridges.doubles.rig import TOKEN, URI, doubles_rig, sentence_in
from tests.bridges.support import ALICE, BOB, BOT, CAROL, GHOST_BOB
from tests.client.support import message

SALT = b"s" * 16
DAN = "mimi://a.example/u/dan"


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ("login", "In a direct chat"),
        (f"login {TOKEN}", "Say which address is yours"),
        (f"login {TOKEN} {URI} now", "In a direct chat"),
        (f"login {TOKEN} bob", "no user's URI"),
        (f"login {TOKEN} mimi://matrix.example/u/alice", "The bridge itself"),
        (f"login {TOKEN} mimi://a.example/u/_bridge", "The bridge itself"),
        (f"login user-unknown {URI}", "does not take that token"),
        (f"login user-alice {URI}", "somebody else's"),
        (f"login {'x' * 4097} {URI}", "no access token"),
        (f"login t\N{LATIN SMALL LETTER O WITH DIAERESIS}ken {URI}", "no access token"),
        ("logout", "no token of yours"),
        ("whoami", "no other account"),
    ],
)
async def test_who_gives_nothing_usable_is_told(words: str, refusal: str) -> None:
    async with doubles_rig() as rig:
        rig.homeserver.tokens |= {TOKEN: CAROL, "user-alice": ALICE}
        answer = await rig.tell(words)
        assert refusal in answer
        assert TOKEN not in answer
        assert rig.login.whoami(CAROL) is None


async def test_a_message_with_a_token_is_removed_by_the_bot_or_with_the_token() -> None:
    async with doubles_rig() as rig:
        rig.homeserver.tokens[TOKEN] = CAROL
        assert "delete it" not in await rig.tell(f"login {TOKEN} {URI}")
        ((redacting, first),) = rig.redactions(rig.chat)
        assert redacting == BOT
        rig.chat.forbidden.add((BOT, "m.room.redaction"))
        assert "delete it" not in await rig.tell(f"login {TOKEN} {URI}")
        assert [who for who, _ in rig.redactions(rig.chat)] == [BOT, CAROL]
        assert first != rig.redactions(rig.chat)[1][1]
        assert "delete it" in await rig.tell("login user-unknown")
        assert "delete it" in await rig.tell("login t\N{LATIN SMALL LETTER O WITH DIAERESIS}ken")
        rig.chat.forbidden.add((CAROL, "m.room.redaction"))
        assert "delete it" in await rig.tell(f"login {TOKEN} {URI}")


async def test_a_token_said_where_others_read_is_removed_and_not_kept() -> None:
    async with doubles_rig() as rig:
        rig.homeserver.tokens[TOKEN] = CAROL
        assert "Others can read this" in await rig.tell(f"login {TOKEN} {URI}", room=rig.room)
        assert [who for who, _ in rig.redactions()] == [BOT]
        assert rig.login.whoami(CAROL) is None
        assert await rig.tell("whoami", room=rig.room) == "Ask me in a direct chat."


async def test_only_the_claimed_address_proves_itself_and_only_with_the_code() -> None:
    async with doubles_rig() as rig:
        rig.homeserver.tokens[TOKEN] = CAROL
        sentence = sentence_in(await rig.tell(f"login {TOKEN} {DAN}"))
        assert sentence_in(await rig.tell(f"login {TOKEN} {DAN}")) == sentence
        # Bob overheard it, or makes something up; and he is not dan.
        assert not await rig.hear(sentence)
        assert sentence_in(await rig.tell(f"login {TOKEN} {URI}")) != sentence
        assert not await rig.hear(sentence)
        mine = sentence_in(await rig.tell(f"login {TOKEN} {URI}"))
        for text in (
            f"!mimi link {CAROL} code",
            mine.replace(CAROL, ALICE),
            f"{mine} now",
            mine[1:],
            "!mimi",
        ):
            assert not await rig.hear(text)
        assert not await rig.login.heard(URI, edit(b"i" * 32, mine, salt=SALT))
        assert "still to say so" in await rig.tell("whoami")
        # A client that formats what is typed proves it all the same.
        parts = (SinglePart(content_type="text/html", content=b"<b>!</b>"), message(mine).part)
        both = MimiContent(salt=SALT, part=MultiPart(semantics=PartSemantics.CHOOSE_ONE, parts=parts))
        assert await rig.login.heard(URI, both)
        assert await rig.tell("whoami") == f"You are {CAROL} and {URI}."
        # What is heard again after a kill is the same, and said to Carol once.
        rig.now += 2 * CODE_MS
        assert await rig.login.heard(URI, both)
        assert rig.told() == [f"From now on, what {URI} says in bridged rooms comes from you."]


async def test_a_code_is_good_for_its_time() -> None:
    async with doubles_rig() as rig:
        rig.homeserver.tokens[TOKEN] = CAROL
        late = sentence_in(await rig.tell(f"login {TOKEN} {URI}"))
        rig.now += CODE_MS + 1
        assert not await rig.hear(late)
        fresh = sentence_in(await rig.tell(f"login {TOKEN} {URI}"))
        assert fresh != late
        rig.now += CODE_MS
        assert await rig.hear(fresh)


async def test_an_address_belongs_to_whom_it_named_last() -> None:
    async with doubles_rig() as rig:
        await rig.prove()
        rig.homeserver.tokens["user-bob"] = BOB
        sentence = await rig.login.login(BOB, "user-bob", URI, chat="")
        assert await rig.hear(sentence)
        assert rig.told()[-1] == f"{URI} is {BOB} now, and no longer you."
        assert rig.login.whoami(CAROL) is None
        await rig.say("hello")
        assert rig.speaking.is_same_person(BOB, GHOST_BOB)


async def test_another_token_needs_no_proof_and_another_address_does() -> None:
    async with doubles_rig() as rig:
        await rig.prove()
        rig.homeserver.tokens["user-carol-2"] = CAROL
        for words in ("login user-carol-2", f"login user-carol-2 {URI}"):
            assert await rig.tell(words) == "I have the new token."
        assert "Now say this" in await rig.tell(f"login user-carol-2 {DAN}")
        assert not rig.speaking.is_same_person(CAROL, GHOST_BOB)


async def test_logging_out_forgets_the_token() -> None:
    async with doubles_rig() as rig:
        await rig.prove()
        assert "have forgotten" in await rig.tell("logout")
        await rig.say("as the ghost")
        assert rig.said() == [(GHOST_BOB, "as the ghost")]
        assert rig.database.all("SELECT * FROM doubles") == []


@pytest.mark.parametrize("away", ["m.room.redaction", "/redact/", "whoami"])
async def test_a_homeserver_that_is_away_refuses_nothing(monkeypatch: pytest.MonkeyPatch, away: str) -> None:
    monkeypatch.setattr(transport, "FIRST_BACKOFF", 0.0)

    def fault(when: str, request: httpx.Request) -> None:
        if when == "before" and away in request.url.path:
            raise httpx.ConnectError("away")

    async with doubles_rig() as rig:
        rig.homeserver.tokens[TOKEN] = CAROL
        if away == "/redact/":
            rig.chat.forbidden.add((BOT, "m.room.redaction"))
        rig.homeserver.fault = fault
        with pytest.raises(ServerUnreachable):
            await rig.tell(f"login {TOKEN} {URI}")
