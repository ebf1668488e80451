"""docs/threats.md is a table of tests that exist; so are the tests that docs/privacy.md names."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "threats.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if re.match(r"\| (?!attacker|-)", line)]


def names_of(file: Path) -> set[str]:
    """Return the names of the tests in a file, also those in classes."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return {
        node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("row", ROWS)
def test_a_row_names_tests_that_exist(row):
    attacker, tries, happens, named = (cell.strip() for cell in row.strip("|").split(" | "))
    assert attacker
    assert tries
    assert happens
    places = re.findall(r"`([^`]+)`", named)
    assert places, "a threat without a test"
    for place in places:
        file, _, test = place.partition("::")
        assert test in names_of(ROOT / "tests" / file), place


def test_the_page_is_short():
    assert len(ROWS) > 10
    assert len(PAGE.splitlines()) <= 40


def test_what_the_promise_rests_on_is_there():
    page = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[^`]+)`", page)
    assert named
    assert not [place for place in named if not (ROOT / place).exists()]


def test_a_test_that_is_gone_would_be_noticed():
    with pytest.raises(AssertionError):
        test_a_row_names_tests_that_exist("| a | b | c | `test_threats.py::test_that_is_not_there` |")
