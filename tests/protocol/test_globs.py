"""Patterns: the specification's examples, a regular expression as the oracle, and what the worst of them
cost.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.protocol.globs import SLOW, Glob, TooMuchWorkError, Work, word_in

ALPHABET = "ab_-. A"
PATTERNS = st.text(ALPHABET + "*?", max_size=8)
VALUES = st.text(ALPHABET, max_size=24)
PLENTY = 10**9
# Not between two characters of words.
BOUNDARY = r"(?:(?<![a-z0-9_])|(?![a-z0-9_]))"


def oracle(pattern: str) -> str:
    return "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern.lower())


@given(PATTERNS, VALUES)
def test_a_whole_value_matches_as_by_a_regular_expression(pattern: str, value: str) -> None:
    expected = re.fullmatch(oracle(pattern), value.lower(), re.DOTALL) is not None
    assert Glob.of(pattern).matches(value, Work(PLENTY)) == expected


@given(PATTERNS, VALUES)
def test_words_in_a_value_match_as_by_a_regular_expression(pattern: str, value: str) -> None:
    expression = BOUNDARY + oracle(pattern) + BOUNDARY
    expected = re.search(expression, value.lower(), re.DOTALL) is not None
    assert Glob.of(pattern).within(value, Work(PLENTY)) == expected


@given(st.text(ALPHABET, max_size=4), VALUES)
def test_a_word_is_found_as_a_pattern_of_it_is(word: str, value: str) -> None:
    assert word_in(word, value, Work(PLENTY)) == Glob.of(word).within(value, Work(PLENTY))


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("lunc?*", "Lunch plans", True),
        ("lunc?*", "LUNCH", True),
        ("lunc?*", " lunch", False),
        ("lunc?*", "lunc", False),
        ("", "", True),
        ("", "x", False),
        ("a*a", "a", False),
        ("**", "", True),
        ("a*b*c", "a\nb\nc", True),
        ("straße", "STRAßE", True),
    ],
)
def test_the_whole_value_is_matched(pattern: str, value: str, matches: bool) -> None:
    assert Glob.of(pattern).matches(value, Work(PLENTY)) is matches


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("ex*ple", "An example event.", True),
        ("ex*ple", "exple", True),
        ("ex*ple", "An exciting triple-whammy", True),
        ("ex*ple", "an examples", False),
        ("tea", "teatime", False),
        ("tea", "steal the tea", True),
        ("tea", "chá_tea", False),
        ("tea", "chá", False),
        ("@room", "hello@room", True),
        ("te?", "the teas, ten", True),
        ("te?", "the teas", False),
    ],
)
def test_words_are_matched_from_boundary_to_boundary(pattern: str, value: str, matches: bool) -> None:
    assert Glob.of(pattern).within(value, Work(PLENTY)) is matches


def test_a_name_is_taken_literally() -> None:
    assert word_in("who?", "is it Who?", Work(PLENTY))
    assert not word_in("who?", "is it whom", Work(PLENTY))
    assert not word_in("a*b", "a to b", Work(PLENTY))


@given(
    st.sampled_from(["a", "aa", "a?", "?", "a?a?b", "aab", ""]).flatmap(
        lambda piece: st.integers(1, 40).map(lambda times: piece * times)
    ),
    st.lists(st.sampled_from(["", "*", "*a*", "?*"]), max_size=3).map("".join),
    st.integers(0, 300),
)
def test_the_worst_patterns_cost_no_more_than_the_lengths_of_both(
    pattern: str, rest: str, length: int
) -> None:
    glob, value = Glob.of(pattern + rest), "a" * length + "c"
    for compare in (glob.matches, glob.within):
        work = Work(PLENTY)
        compare(value, work)
        step = SLOW + len(pattern + rest) // 8 + 1
        assert PLENTY - work.left <= 3 * step * (len(value) + len(pattern + rest) + 1)


@pytest.mark.parametrize("pattern", ["a?b", "ab", "*a?b*", "a"])
def test_what_takes_more_than_it_is_given_is_given_up(pattern: str) -> None:
    with pytest.raises(TooMuchWorkError):
        Glob.of(pattern).within("a" * 1_000, Work(1_100))


def test_a_value_that_is_longer_than_what_is_left_is_not_looked_at() -> None:
    for compare in (Glob.of("a").matches, Glob.of("a").within):
        with pytest.raises(TooMuchWorkError):
            compare("aaa", Work(2))
    with pytest.raises(TooMuchWorkError):
        word_in("a", "aaa", Work(2))
