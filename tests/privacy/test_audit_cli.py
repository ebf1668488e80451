"""`fedcart audit` on real ledgers, through the front door."""

import json
import sqlite3

import pytest

import fedcart
from privacy.accounting import epsilon, group_epsilon, replace_one_epsilon
from privacy.events import PoissonGaussian
from privacy.ledger import Ledger

EVENT = PoissonGaussian(0.05, 1.2, 100)


@pytest.fixture
def path(tmp_path):
    """A ledger with one settled run."""
    ledger = Ledger.create(tmp_path / "shop.sqlite", population="shop", epsilon_cap=6.0, delta=1e-6)
    reservation = ledger.reserve(
        EVENT, run="r1", purpose="round 1", key="r1/1", model_fingerprint="m", code_version="1"
    )
    ledger.settle(reservation)
    return tmp_path / "shop.sqlite"


@pytest.fixture
def audit(capfd):
    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = fedcart.run(["audit", *map(str, arguments)])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


def spent() -> float:
    return epsilon([EVENT], 1e-6)


def test_budget_shows_what_the_ledger_holds(audit, path):
    code, out, _ = audit("budget", path, "--format", "json")
    assert code == 0
    text = json.dumps(json.loads(out))
    assert f"{spent():.6f}"[:6] in text
    assert '"r1"' in text
    code, out, _ = audit("budget", path)
    assert code == 0
    assert f"{spent():.3f}" in out


def test_budget_can_be_drawn(audit, path, tmp_path):
    pytest.importorskip("matplotlib")
    code, _, err = audit("budget", path, "--plot", tmp_path / "budget.png")
    assert code == 0, err
    assert (tmp_path / "budget.png").read_bytes().startswith(b"\x89PNG")


def test_verify_needs_no_private_key(audit, path):
    path.with_name("shop.sqlite.key").unlink()
    code, out, _ = audit("verify", path)
    assert code == 0
    assert "WHOLE" in out


def test_verify_finds_an_edit_and_exits_with_3(audit, path):
    with sqlite3.connect(path) as database:
        names = [row[0] for row in database.execute("select name from sqlite_master where type = 'trigger'")]
        for name in names:
            database.execute(f"drop trigger {name}")
        tables = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
        (table,) = [t for t in tables if "entr" in t]
        columns = [row[1] for row in database.execute(f"pragma table_info({table})")]
        body = next(c for c in columns if c in {"body", "content", "payload", "document"})
        database.execute(f"update {table} set {body} = replace({body}, '100', '10')")
    database.close()
    code, out, err = audit("verify", path)
    assert code == 3, out + err


@pytest.mark.parametrize("damage", ["gone", "cut", "garbage"])
def test_verify_exits_with_4_when_it_cannot_be_read(audit, path, damage):
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"garbage" * 100 if damage == "garbage" else path.read_bytes()[:700])
    code, out, err = audit("verify", path)
    assert code == 4, out + err


def test_a_witness_finds_an_older_copy(audit, path, tmp_path):
    old = path.read_bytes()
    ledger = Ledger.open(path, population="shop")
    ledger.note("later")
    code, head, _ = audit("head", path)
    assert code == 0
    (tmp_path / "head.json").write_text(head)
    assert audit("verify", path, "--witness", tmp_path / "head.json")[0] == 0
    del ledger
    for extra in path.parent.glob("shop.sqlite-*"):
        extra.unlink()
    path.write_bytes(old)
    assert audit("verify", path)[0] == 0, "without a witness an older copy looks whole"
    assert audit("verify", path, "--witness", tmp_path / "head.json")[0] == 3


def test_plan_gives_the_accountant_s_numbers(audit, path):
    code, out, _ = audit(
        "plan", "--noise-multiplier", 1.2, "--sample-rate", 0.05, "--steps", 100, "--format", "json"
    )
    assert code == 0
    plan = json.loads(out)
    plan = plan.get("plan", plan)
    assert plan["epsilon"] == pytest.approx(spent(), rel=1e-9)
    assert plan["replace_one_epsilon"] == pytest.approx(replace_one_epsilon([EVENT], 1e-6), rel=1e-9)
    groups = {g["size"]: g["epsilon"] for g in plan["groups"]}
    assert groups[2] == pytest.approx(group_epsilon([EVENT], 1e-6, 2), rel=1e-9)


def test_plan_against_a_ledger_says_from_where_to_where(audit, path):
    code, out, _ = audit("plan", "--epsilon", 1, "--sample-rate", 0.05, "--steps", 10, "--ledger", path)
    assert code == 0
    assert f"population shop goes from {spent():.2f} to" in out
    code, out, _ = audit("plan", "--epsilon", 6, "--sample-rate", 0.05, "--steps", 10, "--ledger", path)
    assert code == 5
    assert "refused" in out


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-1"])
def test_plan_refuses_numbers_that_mean_nothing(audit, value):
    assert audit("plan", f"--epsilon={value}", "--sample-rate", 0.05, "--steps", 10)[0] == 2


def test_explain_is_a_page_for_people(audit, path):
    code, out, _ = audit("explain", path)
    assert code == 0
    for words in ("one shopper", "From whom", "odds"):
        assert words in out
    assert json.loads(audit("explain", path, "--format", "json")[1])
