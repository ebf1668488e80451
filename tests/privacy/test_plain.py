"""Text of another party: nothing of it steers a terminal, hides, or goes on without end."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.plain import HIDDEN, LINE, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("toys", "toys"),
        ("ε ≤ 8 – łódź 東京 [red]", "ε ≤ 8 – łódź 東京 [red]"),
        ("\x1b[2J\x1b[31m", f"{HIDDEN}[2J{HIDDEN}[31m"),
        (
            "\x1b]8;;http://evil\x1b\\here\x1b]8;;\x07",
            f"{HIDDEN}]8;;http://evil{HIDDEN}\\here{HIDDEN}]8;;{HIDDEN}",
        ),
        ("\x9b31m", f"{HIDDEN}31m"),
        ("\x00\x07\x08\x7f", HIDDEN),
        ("abc\u202etxt", f"abc{HIDDEN}txt"),
        ("\u200fa\u2067b\u2069", f"{HIDDEN}a{HIDDEN}b{HIDDEN}"),
        ("to\u200b\u200d\ufeff\u00adys", f"to{HIDDEN}ys"),
        ("to\u3164\u034f\ufe0fys", f"to{HIDDEN}ys"),
        ("a\u2028b\x85c\td\r\ne\u00a0f", "a b c d  e f"),
        ("\ud800", HIDDEN),
        (7, "7"),
    ],
)
def test_what_is_shown(text, shown):
    assert plain(text) == shown


@given(st.text(), st.integers(1, 40))
def test_whatever_comes_it_prints_and_ends(text, limit):
    shown = plain(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in shown)
    assert plain(shown, limit) == shown, "it is shown the same wherever it passes twice"


def test_two_names_that_differ_by_what_is_hidden_look_so():
    assert plain("to\u200bys") != plain("toys")


def test_a_megabyte_ends():
    assert plain("x" * 1_000_000) == "x" * (LINE - 1) + "…"
