"""`fedcart audit` on real ledgers, through the front door."""

import hashlib
import json
import math
import sqlite3
import sys

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from scipy import stats

import fedcart
from privacy.accounting import (
    CrossCheck,
    calibrate_noise,
    delta_at,
    epsilon,
    group_epsilon,
    replace_one_epsilon,
)
from privacy.cli import price
from privacy.errors import BudgetRefusedError
from privacy.events import PoissonGaussian
from privacy.explain import meaning_of_events, meaning_of_guarantee
from privacy.ledger import Ledger
from privacy.ledger.keys import load_key_file, public_hex

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


def edit(path, statement, *values):
    """Change the tables as somebody would who can write the file."""
    with sqlite3.connect(path) as database:
        for (name,) in database.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            database.execute(f"drop trigger {name}")
        database.execute(statement, values)
    database.close()


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
    edit(path, "update ledger_entries set document = replace(document, '100', '10')")
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
    code, out, _ = audit(
        "plan", "--epsilon", 1, "--sample-rate", 0.05, "--steps", 10, "--quick", "--ledger", path
    )
    assert code == 0
    assert f"population shop goes from {spent():.2f} to" in out
    code, out, _ = audit(
        "plan", "--epsilon", 6, "--sample-rate", 0.05, "--steps", 10, "--quick", "--ledger", path
    )
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


def verdict(audit, *arguments):
    code, out, _ = audit("verify", *arguments, "--format", "json")
    (document,) = json.loads(out)["ledgers"]
    assert document["exit_code"] == code
    return code, document


@pytest.fixture
def folder(tmp_path):
    """A run's folder with two ledgers, one of which refused something and has one reservation open."""
    ledgers = tmp_path / "run" / "ledgers"
    ledgers.mkdir(parents=True)
    given = {"run": "r1", "purpose": "update", "model_fingerprint": "m", "code_version": "1"}
    for name in ("north", "south"):
        ledger = Ledger.create(ledgers / f"{name}.sqlite", population=name, epsilon_cap=6.0, delta=1e-6)
        partly = ledger.reserve(EVENT, key="a", **given)
        ledger.settle(partly, 50, evidence="the process had not started them")
    ledger.reserve(EVENT.with_count(10), key="b", **given)
    with pytest.raises(BudgetRefusedError):
        ledger.reserve(EVENT.with_count(100_000), key="c", **given)
    return tmp_path / "run"


def test_budget_of_a_run_s_folder(audit, folder):
    code, out, _ = audit("budget", folder, "--format", "json")
    north, south = json.loads(out)["budgets"]
    assert code == 0
    assert (north["population"], south["population"]) == ("north", "south")
    assert north["spent"] == pytest.approx(epsilon([EVENT.with_count(50)], 1e-6))
    assert (north["reserved"], north["refused"]) == (0, 0)
    assert south["refused"] == 1
    assert south["committed"] == pytest.approx(epsilon([EVENT.with_count(60)], 1e-6), rel=1e-6)
    assert south["reserved"] == pytest.approx(south["committed"] - south["spent"])
    assert south["left"] == pytest.approx(6.0 - south["committed"])
    (run,) = south["runs"]
    assert (run["run"], run["open"], run["steps"]) == ("r1", 1, 60)
    history = [moment["epsilon"] for moment in north["history"]]
    assert history == pytest.approx([0.0, spent(), north["spent"]], rel=1e-6), "steps given back show"


def test_a_lasting_ledger_that_a_site_names_is_shown(audit, folder, path):
    (folder / "sites").mkdir()
    (folder / "sites" / "00-north.toml").write_text('ledger = "elsewhere/ledgers/north.sqlite"\n')
    (folder / "sites" / "01-shop.toml").write_text(f'ledger = "{path}"\n')
    budgets = json.loads(audit("budget", folder, "--format", "json")[1])["budgets"]
    assert [b["population"] for b in budgets] == ["north", "south", "shop"]


def test_one_of_several_is_chosen_by_its_population(audit, folder):
    assert audit("head", folder)[0] == 2
    code, out, _ = audit("head", folder, "--population", "south")
    assert (code, json.loads(out)["population"]) == (0, "south")
    assert audit("head", folder, "--population", "east")[0] == 2
    Ledger.create(folder / "ledgers" / "south.sqlite", population="east", epsilon_cap=1.0, delta=1e-6)
    code, _, err = audit("budget", folder / "ledgers" / "south.sqlite")
    assert code == 2
    assert "east, south" in err


@pytest.mark.parametrize("command", ["budget", "verify", "head", "explain"])
def test_another_population_s_ledger_is_refused(audit, path, command):
    assert audit(command, path, "--population", "other")[0] == 3
    assert audit(command, path, "--population", "no name!")[0] == 2


@pytest.mark.parametrize("command", ["budget", "verify", "head", "explain"])
def test_what_is_no_ledger_is_refused_in_words(audit, tmp_path, command):
    (tmp_path / "empty.sqlite").touch()
    sqlite3.connect(tmp_path / "other.sqlite").execute("create table t (a)")
    for bad in ("missing.sqlite", "empty.sqlite", "other.sqlite", ".", "x" * 300):
        code, out, err = audit(command, tmp_path / bad)
        assert code == 4, bad
        assert out + err
    assert audit(command, "nonsense://")[0] in {2, 4}
    assert audit(command, "://")[0] == 2
    assert audit(command, "sqlite://")[0] == 2


@pytest.mark.parametrize("command", ["budget", "head", "explain"])
def test_nothing_is_said_of_an_edited_ledger(audit, path, command):
    edit(path, "update ledger_entries set document = replace(document, '100', '10') where seq = 1")
    code, out, err = audit(command, path)
    assert (code, out) == (3, "")
    assert "entry 1" in err


def test_every_damaged_entry_is_named(audit, path):
    ledger = Ledger.open(path, population="shop")
    for i in range(10):
        ledger.note(f"note {i}")
    edit(path, "update ledger_entries set document = replace(document, 'note 1', 'note 7') where seq = 4")
    edit(path, "update ledger_entries set signature = ? where seq in (1, 11)", "0" * 128)
    code, document = verdict(audit, path)
    assert code == 3
    assert [finding["seq"] for finding in document["findings"]] == [1, 4, 11]
    edit(path, "delete from ledger_entries where seq in (6, 7)")
    _, document = verdict(audit, path)
    assert [finding["seq"] for finding in document["findings"]] == [1, 4, 8, 11]
    assert "entry 6 to 7" in document["findings"][2]["message"]


def test_a_shortened_ledger_is_found(audit, path):
    edit(path, "delete from ledger_entries where seq = 2")
    code, document = verdict(audit, path)
    assert (code, document["status"]) == (3, "tampered")
    assert document["findings"]


def test_an_unreadable_ledger_does_not_hide_the_others(audit, folder):
    (folder / "ledgers" / "north.sqlite").write_bytes(b"garbage" * 100)
    code, out, _ = audit("verify", folder, "--format", "json")
    assert code == 4
    assert [d["status"] for d in json.loads(out)["ledgers"]] == ["unreadable", "whole"]
    edit(folder / "ledgers" / "south.sqlite", "update ledger_heads set seq = 0")
    code, out, _ = audit("verify", folder)
    assert code == 3
    assert "UNREADABLE" in out
    assert "TAMPERED  south" in out


def test_the_key_comes_from_the_auditor_or_is_to_be_compared(audit, path, tmp_path):
    private = load_key_file(path.with_name("shop.sqlite.key"))
    public = private.public_key()
    raw = bytes.fromhex(public_hex(public))
    _, document = verdict(audit, path)
    assert document["key_from"] == "the ledger itself"
    assert document["fingerprint"].replace(" ", "") == hashlib.sha256(raw).hexdigest()
    assert "compare this fingerprint" in audit("verify", path)[1]

    pem, text = tmp_path / "key.pem", tmp_path / "key.hex"
    pem.write_bytes(
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    text.write_text(public_hex(public) + "\n")
    for file in (pem, text):
        code, document = verdict(audit, path, "--public-key", file)
        assert (code, document["key_from"]) == (0, "--public-key")
    text.write_text(public_hex(Ed25519PrivateKey.generate().public_key()))
    assert verdict(audit, path, "--public-key", text)[0] == 3


@pytest.mark.parametrize("content", ["", "no key", "é", "00" * 31, "-----BEGIN PUBLIC KEY-----\n!"])
def test_what_is_no_public_key_is_refused(audit, path, tmp_path, content):
    (tmp_path / "key").write_text(content)
    assert audit("verify", path, "--public-key", tmp_path / "key")[0] == 2


def test_a_private_key_is_not_for_auditors(audit, path):
    code, _, err = audit("verify", path, "--public-key", path.with_name("shop.sqlite.key"))
    assert code == 2
    assert "private key" in err


@pytest.mark.parametrize("content", ["", "[]", "3", "{}", "nul", "[" * 100_000, '{"population": 1}'])
def test_what_is_no_witness_is_refused(audit, path, tmp_path, content):
    (tmp_path / "head.json").write_text(content)
    assert audit("verify", path, "--witness", tmp_path / "head.json")[0] == 2
    assert audit("verify", path, "--witness", tmp_path / "gone.json")[0] == 2


def test_a_witness_of_another_ledger_or_with_a_false_signature_is_no_witness(audit, folder, path, tmp_path):
    head = json.loads(audit("head", path)[1])
    file = tmp_path / "head.json"
    file.write_text(json.dumps(head | {"seq": 1}))
    assert verdict(audit, path, "--witness", file)[0] == 3
    file.write_text(json.dumps(head))
    assert verdict(audit, folder / "ledgers" / "north.sqlite", "--witness", file)[0] == 3
    assert audit("verify", folder, "--witness", file)[0] == 2


def test_an_edited_ledger_cannot_steer_the_terminal(audit, path):
    edit(path, "update ledger_meta set population = ?", "\x1b[2Jshop")
    code, out, err = audit("verify", path)
    assert code == 3
    assert "\x1b" not in out + err


def test_plan_finds_the_noise_for_an_epsilon(audit):
    code, out, err = audit(
        *("plan", "--epsilon", 2, "--sample-rate", 0.05, "--steps", 50, "--delta", 1e-5),
        *("--population-size", 200_000, "--quick", "--format", "json"),
    )
    plan = json.loads(out)
    sigma = calibrate_noise(2.0, 1e-5, 0.05, 50)
    event = PoissonGaussian(0.05, sigma, 50)
    assert code == 0
    assert (plan["noise_multiplier"], plan["expected_batch"]) == (sigma, 10_000)
    assert plan["epsilon"] == epsilon([event], 1e-5) <= 2.0
    assert {at["epsilon"]: at["delta"] for at in plan["delta_at"]}[1.0] == delta_at([event], 1.0)
    assert "not below one over" in err


def test_plan_flags_a_cross_check_that_disagrees(audit, monkeypatch):
    monkeypatch.setattr(price, "cross_checks", lambda *_: (CrossCheck("Opacus PRV", 9.0, False, "gives 9"),))
    monkeypatch.setattr(price, "GROUPS", ())
    code, out, err = audit("plan", "--noise-multiplier", 1.2, "--sample-rate", 0.05, "--steps", 100)
    assert code == 0
    assert "DISAGREES" in out
    assert "Opacus PRV disagrees" in err


def test_plan_asks_for_what_it_needs(audit, path):
    base = ("plan", "--sample-rate", 0.05, "--steps", 10, "--quick")
    assert audit(*base)[0] == 2
    assert audit(*base, "--epsilon", 1, "--noise-multiplier", 1)[0] == 2
    assert audit(*base, "--epsilon", 1, "--delta", 1e-5, "--ledger", path)[0] == 2
    assert audit(*base, "--epsilon", 1, "--population-size", 0)[0] == 2
    assert audit("plan", "--epsilon", 1, "--sample-rate", 1.5, "--steps", 10)[0] == 2
    assert audit("plan", "--epsilon", 1, "--sample-rate", 0.5, "--steps", 0)[0] == 2
    assert audit("plan", "--epsilon", 1)[0] == 2


def test_plot_says_what_is_missing(audit, path, tmp_path, monkeypatch):
    assert audit("budget", path, "--plot", tmp_path / "p.nonsense")[0] == 2
    assert audit("budget", path, "--plot", tmp_path / "no" / "p.png")[0] == 2
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = audit("budget", path, "--plot", tmp_path / "p.png")
    assert code == 2
    assert "fedcart[plots]" in err


@pytest.mark.parametrize(("noise", "count"), [(1.0, 1), (3.0, 4), (0.7, 1)])
def test_explain_fits_the_closed_form_of_a_gaussian(noise, count):
    meaning = meaning_of_events("here", {(1.0, noise): count}, 1e-6)
    mu = math.sqrt(count) / noise
    for guess in meaning.guesses:
        exact = stats.norm.sf(stats.norm.isf(guess.false_positive_rate) - mu)
        assert exact * (1 - 1e-9) <= guess.true_positive_rate <= exact * 1.001 + 1e-6
    exceeded = stats.norm.sf(meaning.epsilon / mu - mu / 2)
    assert exceeded <= meaning.exceeded <= 30 * exceeded
    for belief in meaning.beliefs:
        odds, up, down = (p / (1 - p) for p in (belief.prior, belief.highest, belief.lowest))
        assert up == pytest.approx(odds * math.exp(meaning.epsilon), rel=1e-6)
        assert down == pytest.approx(odds * math.exp(-meaning.epsilon), rel=1e-6)


def test_guessing_is_never_better_than_what_epsilon_and_delta_allow():
    exact = meaning_of_events("exact", {(0.05, 1.2): 100}, 1e-6)
    bound = meaning_of_guarantee("bound", exact.epsilon, 1e-6)
    for tight, loose in zip(exact.guesses, bound.guesses, strict=True):
        assert tight.false_positive_rate < tight.true_positive_rate <= loose.true_positive_rate
    nothing = meaning_of_events("nothing", {}, 1e-6)
    assert [g.true_positive_rate for g in nothing.guesses] == [0.001, 0.01, 0.05]


def test_explain_in_every_format(audit, path, folder):
    code, out, _ = audit("explain", path, "--format", "json")
    (subject,) = json.loads(out)["subjects"]
    now, cap = subject["meanings"]
    assert code == 0
    assert (now["epsilon"], cap["epsilon"]) == (pytest.approx(spent(), rel=1e-6), 6.0)
    assert now["factor"] == pytest.approx(math.exp(spent()), rel=1e-6)
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
