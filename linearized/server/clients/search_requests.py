"""What a client asks ``POST search`` for (Client-Server API, Server Side Search)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.event_filters import EventFilter, parse_event_filter
from linearized.server.clients.fields import (
    bad_json,
    boolean,
    integer,
    invalid,
    objects,
    optional_object,
    optional_text,
    text,
    texts,
)
from linearized.store.base import EntryRow

DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 50  # each comes with its neighbours
DEFAULT_AROUND: Final = 5  # "The default is 5"
MAX_AROUND: Final = 10
MAX_TERM: Final = 255
MAX_WORDS: Final = 10  # each is looked for in every event
MAX_GROUPINGS: Final = 2

# "One of: [content.body, content.name, content.topic]", and what else an event must be to have such a text.
KEYS: Final = {"content.body": None, "content.name": "m.room.name", "content.topic": "m.room.topic"}
_MARKS: Final = {key: f'"{key.removeprefix("content.")}"'.encode() for key in KEYS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One search as asked.

    Attributes:
        words: all have to be in one of the texts, whatever their case; ``case folded``.
        around: how many events before and after each; None for no context.
    """

    words: tuple[str, ...]
    keys: tuple[str, ...]
    filter: EventFilter
    limit: int
    by_rank: bool
    around: tuple[int, int] | None
    profiles: bool
    state: bool
    groups: tuple[str, ...]

    def may_match(self, entry: EntryRow) -> bool:
        """Whether an entry is worth decoding: most are not."""
        if not (self.filter.allows(entry) and any(_MARKS[key] in entry.pdu for key in self.keys)):
            return False
        raw = entry.pdu.decode(errors="replace").casefold()
        # In the bytes some characters are written otherwise; a word with them is looked for when decoded.
        return all(word in raw for word in self.words if _plain(word))

    def hits(self, entry: EntryRow, content: JsonObject) -> int:
        """How often the words are in the texts of an entry; 0 if not all are in one of them."""
        count = 0
        for key in self.keys:
            value = content.get(key.removeprefix("content."))
            if isinstance(value, str) and KEYS[key] in {None, entry.type}:
                found = [value.casefold().count(word) for word in self.words]
                count += sum(found) if all(found) else 0
        return count


def _plain(word: str) -> bool:
    return '"' not in word and "\\" not in word and word.isprintable()


def parse_search(body: JsonObject) -> Search:
    """Read the request.

    Raises:
        HttpError: 400 ``M_BAD_JSON`` or ``M_INVALID_PARAM``.
    """
    criteria = optional_object(optional_object(body, "search_categories"), "room_events")
    if not criteria:
        raise bad_json("search_categories.room_events is missing")
    words = tuple(dict.fromkeys(text(criteria, "search_term", limit=MAX_TERM).casefold().split()))
    if len(words) > MAX_WORDS:
        raise invalid(f"search_term has more than {MAX_WORDS} words")
    keys = tuple(dict.fromkeys(texts(criteria, "keys", limit=len(KEYS)))) or tuple(KEYS)
    if not KEYS.keys() >= set(keys):
        raise invalid("keys: only content.body, content.name and content.topic are searched")
    order = optional_text(criteria, "order_by") or "rank"
    if order not in {"rank", "recent"}:
        raise invalid("order_by must be rank or recent")
    asked, wanted = optional_object(criteria, "event_context"), optional_object(criteria, "filter")
    limit = integer(wanted, "limit") if "limit" in wanted else DEFAULT_LIMIT
    return Search(
        words=words,
        keys=keys,
        filter=parse_event_filter(wanted),
        limit=max(1, min(limit, MAX_LIMIT)),
        by_rank=order == "rank",
        around=(_around(asked, "before_limit"), _around(asked, "after_limit"))
        if criteria.get("event_context") is not None
        else None,
        profiles=boolean(asked, "include_profile"),
        state=boolean(criteria, "include_state"),
        groups=_groups(criteria),
    )


def _around(asked: dict[str, Any], name: str) -> int:
    return min(integer(asked, name), MAX_AROUND) if name in asked else DEFAULT_AROUND


def _groups(criteria: JsonObject) -> tuple[str, ...]:
    wanted = objects(optional_object(criteria, "groupings"), "group_by", limit=MAX_GROUPINGS)
    keys = tuple(text(each, "key") for each in wanted)
    if not {"room_id", "sender"} >= set(keys):
        raise invalid("Results are grouped by room_id or sender")
    return keys
