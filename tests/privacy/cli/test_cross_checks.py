"""Other accountants beside ε of record: shown by every command that shows ε, and never silent when they disagree."""

import json

import pytest

from privacy.accounting import cross
from privacy.accounting.loss import PrivacyLoss
from privacy.ledger import Ledger

PLAN = ("plan", "--noise-multiplier", 1.2, "--sample-rate", 0.05, "--steps", 100)


def checks_in(document):
    (subject,) = document.get("budgets") or document.get("ledgers") or [document]
    return {check["name"]: check for check in subject["cross_checks"]}, subject["warnings"]


@pytest.mark.parametrize("command", ["plan", "budget", "verify"])
def test_they_are_shown_beside_epsilon(audit, path, spent, command):
    arguments = PLAN if command == "plan" else (command, path)
    code, out, _ = audit(*arguments, "--format", "json")
    checks, warnings = checks_in(json.loads(out))
    assert code == 0
    assert checks["dp-accounting PLD"]["epsilon"] == pytest.approx(spent, rel=1e-4)
    assert checks["Opacus PRV"]["epsilon"] == pytest.approx(spent, abs=0.02)
    assert checks["Opacus RDP"]["epsilon"] > spent
    assert all(check["agrees"] for check in checks.values())
    assert not any("disagrees" in warning for warning in warnings)
    code, out, err = audit(*arguments)
    assert code == 0
    assert out.count("agrees") == 3
    assert "DISAGREES" not in out + err
    assert audit(*arguments, "--quick")[1].count("agrees") == 0


@pytest.mark.parametrize("command", ["plan", "budget", "verify"])
def test_a_disagreement_is_reported(audit, path, monkeypatch, command):
    monkeypatch.setattr(cross, "_rdp", lambda counts, delta: 0.5)
    arguments = PLAN if command == "plan" else (command, path)
    code, out, err = audit(*arguments, "--format", "json")
    checks, warnings = checks_in(json.loads(out))
    assert code == 0, "the record is whole: another accountant's word does not change that"
    assert not checks["Opacus RDP"]["agrees"]
    assert any("Opacus RDP disagrees" in warning for warning in warnings)
    code, out, err = audit(*arguments)
    assert code == 0
    assert "DISAGREES" in out
    assert "Opacus RDP disagrees" in out + err


@pytest.mark.parametrize("command", ["budget", "verify"])
def test_a_wrong_accountant_of_our_own_cannot_hide(audit, tmp_path, event, monkeypatch, command):
    """It writes and recomputes the same too small ε, so that everything fits, but for the others."""
    true = PrivacyLoss._epsilon
    monkeypatch.setattr(PrivacyLoss, "_epsilon", lambda loss, delta: 0.8 * true(loss, delta))
    ledger = Ledger.create(tmp_path / "l.sqlite", population="shop", epsilon_cap=6.0, delta=1e-6)
    given = {"purpose": "update", "model_fingerprint": "m", "code_version": "1"}
    ledger.settle(ledger.reserve(event, run="r", key="k", **given), "ab" * 32)
    code, out, _ = audit(command, tmp_path / "l.sqlite", "--format", "json")
    checks, warnings = checks_in(json.loads(out))
    assert code == 0
    assert {name for name, check in checks.items() if not check["agrees"]} == {
        "Opacus PRV",
        "dp-accounting PLD",
    }
    assert sum("disagrees" in warning for warning in warnings) == 2
