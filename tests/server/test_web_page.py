"""The files of the web page, as they are served."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from linearized.server.web_page import HEADERS, web_routes
from tests.server.test_http import request

ROUTES = {route.pattern: route for route in web_routes()}
TEXTS = {
    entry.name: entry.read_text() for entry in files("linearized.server.web").iterdir() if entry.is_file()
}


def test_the_page_and_all_its_files_are_served() -> None:
    named = {name for name in TEXTS if not name.endswith(".py")}
    assert ROUTES.keys() == {"/"} | {f"/web/{name}" for name in named - {"index.html"}}


@pytest.mark.parametrize("pattern", sorted(ROUTES))
async def test_a_file_comes_with_a_strong_tag_and_the_policy(pattern: str) -> None:
    answer = await ROUTES[pattern].handler(request(target=pattern.encode()))
    headers = dict(answer.headers)
    assert answer.status == 200
    assert re.fullmatch(r'"[0-9a-f]{64}"', headers["etag"])
    assert answer.headers[: len(HEADERS)] == HEADERS
    again = request(target=pattern.encode(), headers=[(b"if-none-match", headers["etag"].encode())])
    assert (await ROUTES[pattern].handler(again)).status == 304


def test_the_policy_lets_nothing_in_from_elsewhere() -> None:
    policy = dict(HEADERS)["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["frame-ancestors"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"


def test_the_page_has_no_script_and_no_style_of_its_own_and_loads_only_what_is_served() -> None:
    page = TEXTS["index.html"]
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", page)
    assert re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL) == [""]
    loaded = re.findall(r'(?:src|href)="([^#"]+)"', page)
    imported = [target for text in TEXTS.values() for target in re.findall(r'from "([^"]+)"', text)]
    assert {*loaded, *imported} <= ROUTES.keys()


def test_text_of_rooms_never_becomes_markup() -> None:
    for name, text in TEXTS.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), name
