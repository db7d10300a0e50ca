from __future__ import annotations

import pytest

from bridges.matrix.database import Database
from bridges.matrix.device_states import has_secrets
from bridges.matrix.megolm import mailbox
from bridges.matrix.megolm.accounts import Accounts
from bridges.matrix.megolm.mailbox import MAX_MESSAGE, Mailbox, MailboxFull
from linearized.exceptions import StoreError
from tests.bridges.encrypting_client import JsonObject
from tests.bridges.megolm.rig import KEY

NEW = b"n" * 32


def message(number: int) -> JsonObject:
    return {
        "type": "m.x",
        "sender": "@a:b",
        "content": {"n": number},
        "to_user_id": "@u:b",
        "to_device_id": "D",
    }


def test_messages_wait_in_order_and_each_is_here_once() -> None:
    box = Mailbox(Database(":memory:"))
    assert box.put([message(1), message(2)]) == 2
    # Pushed and then found in the inbox, or the other way around.
    assert box.put([message(2), message(3)]) == 1
    found = []
    while (letter := box.next()) is not None:
        found.append((letter.type, letter.sender, letter.to_user, letter.to_device, letter.content["n"]))
        box.done(letter)
    assert found == [("m.x", "@a:b", "@u:b", "D", number) for number in (1, 2, 3)]
    assert box.put([message(1)]) == 0


def test_what_is_too_large_or_no_message_is_dropped() -> None:
    box = Mailbox(Database(":memory:"))
    assert box.put(["text", {"content": "x" * MAX_MESSAGE}, {}]) == 1
    letter = box.next()
    assert letter is not None
    assert (letter.type, letter.content) == ("", {})


def test_a_full_box_takes_nothing_of_a_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MAX_WAITING", 2)
    database = Database(":memory:")
    box = Mailbox(database)
    assert box.put([message(1)]) == 1
    with pytest.raises(MailboxFull):
        box.put([message(2), message(3)])
    assert database.one("SELECT COUNT(*) FROM to_device")[0] == 1
    # The same comes again when there is room.
    letter = box.next()
    assert letter is not None
    box.done(letter)
    assert box.put([message(2), message(3)]) == 2


def test_what_was_seen_is_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "SEEN_KEPT", 2)
    database = Database(":memory:")
    Mailbox(database).put([message(number) for number in range(5)])
    assert database.one("SELECT COUNT(*) FROM to_device_seen")[0] == 2


def test_secrets_are_encrypted_in_the_database_and_open_with_their_key_only() -> None:
    database = Database(":memory:")
    assert not has_secrets(database)
    made = Accounts(database, key=KEY, ids=lambda size: "a-b_c" * size).make("@u:b")
    assert made.device_id.isalnum()
    assert has_secrets(database)
    row = database.one("SELECT * FROM crypto_accounts")
    assert "ed25519" not in row["account"]
    with pytest.raises(StoreError, match="storage key"):
        Accounts(database, key=NEW, ids=lambda size: "").find("@u:b")
