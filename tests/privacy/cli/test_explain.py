"""`fedcart audit explain`: what ε means for one shopper."""

import json
import math

import pytest


def test_explain_is_a_page_for_people(audit, path):
    code, out, _ = audit("explain", path)
    assert code == 0
    for words in ("one shopper", "From whom", "odds"):
        assert words in out
    assert json.loads(audit("explain", path, "--format", "json")[1])


def test_explain_in_every_format(audit, path, folder, spent):
    code, out, _ = audit("explain", path, "--format", "json")
    (subject,) = json.loads(out)["subjects"]
    now, cap = subject["meanings"]
    assert code == 0
    assert (now["epsilon"], cap["epsilon"]) == (pytest.approx(spent, rel=1e-6), 6.0)
    assert now["factor"] == pytest.approx(math.exp(spent), rel=1e-6)
    code, out, _ = audit("explain", folder, "--format", "markdown")
    assert code == 0
    assert out.count("# What was promised to a shopper of") == 2
    assert "## What is not covered" in out


def test_explain_without_a_ledger(audit, path):
    assert audit("explain")[0] == 0
    code, out, _ = audit("explain", "--epsilon", 2, "--format", "json")
    (subject,) = json.loads(out)["subjects"]
    assert code == 0
    assert subject["meanings"][0]["factor"] == pytest.approx(math.exp(2))
    for bad in (("--epsilon=nan",), ("--epsilon=-1",), ("--epsilon=1", "--delta=0"), (path, "--epsilon=1")):
        assert audit("explain", *bad)[0] == 2
