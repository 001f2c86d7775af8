"""Captions as they are seen; the expected values are worked out by hand from what sd-scripts' documents and code say."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from fashion_ml.data.captions import CaptionSettings, lines_of, plain_caption, seen_caption

CAPTION = "zarya style, a red dress, long, studio"


def seen(seed: int, caption: str = CAPTION, *, epoch: int = 1, **settings: Any) -> str:
    return seen_caption(caption, CaptionSettings(**settings), torch.Generator().manual_seed(seed), epoch=epoch)


def all_seen(caption: str = CAPTION, seeds: int = 200, **settings: Any) -> set[str]:
    return {seen(seed, caption, **settings) for seed in range(seeds)}


def test_without_any_switch_the_caption_stays_as_it_is():
    assert all_seen(seeds=5) == {CAPTION}
    assert all_seen("a,b ,  c\nd {x|y}", seeds=5) == {"a,b ,  c\nd {x|y}"}


def test_shuffling_keeps_the_first_parts_in_place_and_loses_none():
    results = all_seen(shuffle_caption=True, keep_tokens=1)
    assert len(results) == 6  # 3! orders of the other three
    assert all(result.startswith("zarya style, ") for result in results)
    assert {frozenset(result.split(", ")) for result in results} == {frozenset(CAPTION.split(", "))}


def test_keeping_more_parts_than_there_are_changes_nothing():
    assert seen(3, shuffle_caption=True, keep_tokens=9) == CAPTION


def test_dropout_empties_about_its_share():
    counts = Counter(seen(seed, caption_dropout_rate=0.25) for seed in range(400))
    assert set(counts) == {"", CAPTION}
    assert 70 < counts[""] < 130  # 100 expected, standard deviation 8.7


def test_what_was_drawn_before_there_were_other_settings_is_drawn_still():
    """One number for the dropout, then a permutation, from one generator."""
    for seed in range(20):
        draws = torch.Generator().manual_seed(seed)
        dropped = torch.rand((), generator=draws).item() < 0.3
        order = torch.randperm(3, generator=draws)
        parts = CAPTION.split(", ")
        expected = "" if dropped else ", ".join([parts[0], *(parts[1:][index] for index in order)])
        assert seen(seed, shuffle_caption=True, keep_tokens=1, caption_dropout_rate=0.3) == expected


def test_prefix_and_suffix_stand_around_with_a_space_and_take_part_in_the_shuffling():
    words = {"caption_prefix": "sks,", "caption_suffix": ", from side"}
    assert all_seen("red, blue", **words) == {"sks, red, blue , from side"}
    assert all_seen("red", shuffle_caption=True, keep_tokens=1, **words) == {"sks, red, from side", "sks, from side, red"}


def test_every_nth_epoch_from_the_nth_on_is_without_captions():
    found = [seen(1, epoch=epoch, caption_dropout_every_n_epochs=3) == "" for epoch in range(1, 8)]
    assert found == [False, False, True, False, False, True, False]


def test_parts_before_the_first_mark_and_behind_the_second_stay():
    """The example of sd-scripts' document on data sets."""
    caption = "aaa, bbb ||| ccc, ddd, eee, fff ||| ggg, hhh"
    results = all_seen(caption, 600, shuffle_caption=True, keep_tokens=3, keep_tokens_separator="|||")
    assert len(results) == 24
    assert {(result[:8], result[-8:]) for result in results} == {("aaa, bbb", "ggg, hhh")}
    assert {frozenset(result[10:-10].split(", ")) for result in results} == {frozenset(("ccc", "ddd", "eee", "fff"))}


def test_the_mark_is_never_trained_and_without_one_keep_tokens_counts():
    assert all_seen("a ||| b, c", keep_tokens_separator="|||") == {"a, b, c"}
    kept = {"shuffle_caption": True, "keep_tokens": 1, "keep_tokens_separator": "|||"}
    assert all_seen("a, b, c", **kept) == {"a, b, c", "a, c, b"}


def test_dropped_parts_are_each_as_likely_and_kept_ones_stay():
    counts = Counter(
        part for seed in range(400) for part in seen(seed, keep_tokens=1, caption_tag_dropout_rate=0.25).split(", ")
    )
    assert counts["zarya style"] == 400
    assert all(265 < counts[part] < 335 for part in ("a red dress", "long", "studio"))  # 300 expected, deviation 8.7
    assert all_seen(caption_tag_dropout_rate=1.0, keep_tokens_separator="dress", seeds=3) == {"zarya style, a red"}


def test_parts_that_the_secondary_separator_joins_move_and_fall_together():
    """`aaa;;;bbb` is one part for shuffling and dropping, and `aaa,bbb` in the end, without a space."""
    joined = {"secondary_separator": ";;;", "shuffle_caption": True}
    assert all_seen("aaa;;;bbb, ccc", **joined) == {"aaa,bbb, ccc", "ccc, aaa,bbb"}
    dropping = all_seen("aaa;;;bbb, ccc", secondary_separator=";;;", caption_tag_dropout_rate=0.5)
    assert dropping == {"aaa,bbb, ccc", "aaa,bbb", "ccc", ""}
    assert all_seen("a;;;b | c", secondary_separator=";;;", caption_separator="|") == {"a|b | c"}


def test_another_separator_parts_and_the_comma_joins():
    assert all_seen("a | b, c", shuffle_caption=True, caption_separator="|") == {"a, b, c", "b, c, a"}


@pytest.mark.parametrize(
    ("caption", "results"),
    [
        ("a {red|blue} dress", {"a red dress", "a blue dress"}),
        ("{a|b} {c|d}", {"a c", "a d", "b c", "b d"}),
        ("a {|new} hat", {"a  hat", "a new hat"}),
        ("{only} one", {"only one"}),
        ("{{a|b}} stays", {"{a|b} stays"}),
        ("{x{{1}}|y}", {"x{1}", "y"}),
        ("empty {} stays", {"empty {} stays"}),
        ("first\n{second|third}", {"first", "second", "third"}),
    ],
)
def test_one_word_of_each_wildcard_and_one_line_of_several_is_drawn(caption: str, results: set[str]):
    assert all_seen(caption, enable_wildcard=True) == results


def test_words_of_a_wildcard_are_equally_likely():
    counts = Counter(seen(seed, "{a|b|c}", enable_wildcard=True) for seed in range(600))
    assert all(155 < counts[word] < 245 for word in "abc")  # 200 expected, deviation 11.5


def test_the_prefix_is_before_every_line_and_may_hold_wildcards():
    words = {"enable_wildcard": True, "caption_prefix": "{sks|ohwx},"}
    assert all_seen("one\ntwo", **words) == {"sks, one", "sks, two", "ohwx, one", "ohwx, two"}


def test_where_nothing_is_drawn_it_is_the_first_line_with_first_words_in_its_order():
    settings = CaptionSettings("sks,", None, ",", True, 1, "|||", ";;;", True, 0.9, 1, 0.9)
    assert plain_caption("a ||| {b|c}, d;;;e\nother", settings) == "sks, a, b, d,e"
    assert plain_caption("a ,b", CaptionSettings(shuffle_caption=True, caption_tag_dropout_rate=1)) == "a ,b"


def test_of_several_lines_the_first_is_the_caption_or_all_or_each_one_that_is_not_empty():
    text = "a red dress \n\n  second line\n"
    assert lines_of(text, each=False, all_lines=False) == "a red dress"
    assert lines_of(text, each=False, all_lines=True) == text
    assert lines_of(text, each=True, all_lines=False) == "a red dress\nsecond line"
    assert lines_of("", each=False, all_lines=False) == lines_of(" ", each=True, all_lines=False) == ""


@pytest.mark.parametrize(
    ("settings", "fixed"),
    [
        ({}, True),
        ({"caption_prefix": "new", "keep_tokens_separator": "|||", "secondary_separator": ";;;"}, True),
        ({"shuffle_caption": True}, False),
        ({"caption_tag_dropout_rate": 0.1}, False),
        ({"caption_dropout_rate": 0.1}, False),
        ({"caption_dropout_every_n_epochs": 3}, False),
        ({"enable_wildcard": True}, False),
    ],
)
def test_a_caption_that_is_fixed_is_always_the_plain_one(settings: dict[str, Any], fixed: bool):
    text = "a, b|||c, {d|e};;;f, g, h, i, j, k"
    found = CaptionSettings(**settings)
    assert found.is_fixed == fixed
    results = {seen_caption(text, found, torch.Generator().manual_seed(seed), epoch=seed + 1) for seed in range(60)}
    assert (results == {plain_caption(text, found)}) == fixed
