"""Push rules (Client-Server API, Push Rules): kept for the user's clients, which apply them, as
``notifications`` does as far as this server can read what they look at. It pushes nothing itself.

They are the account data ``m.push_rules``, and told in ``/sync`` as that once they were changed.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from linearized.protocol.canonical import JsonObject
from linearized.protocol.push_rule_defaults import KINDS, default_rules
from linearized.server.clients.account_data import keep
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import bad_json, boolean, invalid, objects, text
from linearized.server.clients.notifications import PUSH_RULES as TYPE
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.store.account_data import GLOBAL

MAX_RULES: Final = 500  # of all kinds: clients try them on every message
MAX_RULE_ID: Final = 255
MAX_PATTERN: Final = 255
MAX_CONDITIONS: Final = 20
MAX_ACTIONS: Final = 20
_CONDITIONAL: Final = frozenset({"override", "underride"})

Rules = dict[str, list[JsonObject]]


def _rules(context: Context, caller: Caller) -> Rules:
    stored = context.node.store.account_datum(caller.user_id, GLOBAL, TYPE)
    found: Rules = orjson.loads(stored)["global"] if stored is not None else default_rules(caller.user_id)
    return found


async def _keep(context: Context, caller: Caller, rules: Rules) -> None:
    await keep(context, caller, GLOBAL, TYPE, {"global": rules})


def _kind(request: Request) -> str:
    kind = request.params["kind"]
    if kind not in KINDS:
        raise invalid(f"A rule is one of {', '.join(KINDS)}")
    return kind


def _find(rules: Rules, request: Request) -> JsonObject:
    for rule in rules[_kind(request)]:
        if rule["rule_id"] == request.params["rule_id"]:
            return rule
    raise HttpError(404, "M_NOT_FOUND", "There is no such rule")


async def get_all(context: Context, request: Request, caller: Caller) -> Response:
    """``GET pushrules/``."""
    del request
    return json_response({"global": _rules(context, caller)})


async def get_global(context: Context, request: Request, caller: Caller) -> Response:
    """``GET pushrules/global/``."""
    del request
    return json_response(_rules(context, caller))


async def get(context: Context, request: Request, caller: Caller) -> Response:
    """``GET pushrules/global/{kind}/{ruleId}``."""
    return json_response(_find(_rules(context, caller), request))


async def put(context: Context, request: Request, caller: Caller) -> Response:
    """``PUT pushrules/global/{kind}/{ruleId}``: a rule of the user's own, the first of its kind or
    where ``before`` or ``after`` say.
    """
    kind, rule = _kind(request), await _rule(request)
    async with context.in_flight.alone(f"push rules {caller.user_id}"):
        rules = _rules(context, caller)
        known = [each for each in rules[kind] if each["rule_id"] == rule["rule_id"]]
        if not known and sum(map(len, rules.values())) >= MAX_RULES:
            raise HttpError(400, "M_LIMIT_EXCEEDED", f"There may be {MAX_RULES} rules")
        if known:
            rule["enabled"] = known[0]["enabled"]
        others = [each for each in rules[kind] if each["rule_id"] != rule["rule_id"]]
        others.insert(_place(request, kind, others), rule)
        await _keep(context, caller, {**rules, kind: others})
    return json_response({})


def _place(request: Request, kind: str, others: list[JsonObject]) -> int:
    """Where among its kind a rule goes. Rules of the user's own stand before the predefined ones, but for
    the one that turns everything off.
    """
    own = [each["rule_id"] for each in others if not each["default"]]
    first = next((index for index, each in enumerate(others) if not each["default"]), None)
    start = first if first is not None else int(kind == "override")
    for name, step in (("before", 0), ("after", 1)):
        value = request.query_one(name)
        if value is not None:
            if value not in own:
                raise HttpError(404, "M_NOT_FOUND", f"{name} names no rule of yours")
            return start + own.index(value) + step
    return start


async def _rule(request: Request) -> JsonObject:
    rule_id, kind = request.params["rule_id"], _kind(request)
    if rule_id.startswith("."):
        raise invalid("The names of predefined rules begin with a dot, and no others")
    if not 0 < len(rule_id) <= MAX_RULE_ID or "/" in rule_id or "\\" in rule_id:
        raise invalid(f"A rule's name has 1 to {MAX_RULE_ID} characters and no slashes")
    body = await request.any_json()
    rule: JsonObject = {
        "rule_id": rule_id,
        "default": False,
        "enabled": True,
        "actions": _actions(body),
    }
    if kind in _CONDITIONAL:
        conditions = objects(body, "conditions", limit=MAX_CONDITIONS)
        if not all(isinstance(condition.get("kind"), str) for condition in conditions):
            raise bad_json("A condition must have a kind")
        rule["conditions"] = conditions
    if kind == "content":
        rule["pattern"] = text(body, "pattern", limit=MAX_PATTERN)
    return rule


def _actions(body: JsonObject) -> list[Any]:
    actions = body.get("actions")
    if not isinstance(actions, list) or not all(isinstance(action, str | dict) for action in actions):
        raise bad_json("actions must be a list of strings and objects")
    if len(actions) > MAX_ACTIONS:
        raise invalid(f"A rule has at most {MAX_ACTIONS} actions")
    return actions


async def delete(context: Context, request: Request, caller: Caller) -> Response:
    """``DELETE pushrules/global/{kind}/{ruleId}``."""
    kind = _kind(request)
    async with context.in_flight.alone(f"push rules {caller.user_id}"):
        rules = _rules(context, caller)
        rule = _find(rules, request)
        if rule["default"]:
            raise invalid("A predefined rule can be turned off, not deleted")
        others = [each for each in rules[kind] if each["rule_id"] != rule["rule_id"]]
        await _keep(context, caller, {**rules, kind: others})
    return json_response({})


async def get_part(context: Context, request: Request, caller: Caller) -> Response:
    """``GET pushrules/global/{kind}/{ruleId}/{enabled|actions}``."""
    name, rule = _part(request), _find(_rules(context, caller), request)
    return json_response({name: rule[name]})


async def put_part(context: Context, request: Request, caller: Caller) -> Response:
    """``PUT pushrules/global/{kind}/{ruleId}/{enabled|actions}``, of predefined rules too."""
    name, body = _part(request), await request.any_json()
    if name == "enabled" and "enabled" not in body:
        raise bad_json("enabled is missing")
    value = boolean(body, "enabled") if name == "enabled" else _actions(body)
    async with context.in_flight.alone(f"push rules {caller.user_id}"):
        rules = _rules(context, caller)
        _find(rules, request)[name] = value
        await _keep(context, caller, rules)
    return json_response({})


def _part(request: Request) -> str:
    name = request.params["part"]
    if name not in {"enabled", "actions"}:
        raise HttpError(404, "M_UNRECOGNIZED", "Of a rule, enabled and actions can be set")
    return name
