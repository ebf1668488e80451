"""`fedcart audit empirical` through the front door: verdicts, exit codes, bad input, and nothing touched."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from clients.audit.defects import Scaled
from clients.data.products import published
from clients.platform import read_catalogue
from clients.site import SiteSettings, save_site
from privacy.ledger import Ledger
from shared_model.features import make_encoders
from shared_model.vocabulary import Vocabulary
from shared_model.vocabulary_file import vocabulary_bytes
from simulations import empirical as command
from tests.front_door import FrontDoor

FEW = ("--canaries", 400, "--runs", 2, "--seed", 1)


@pytest.fixture
def empirical(capfd):
    """Return a function that runs the command and returns exit code, output and messages."""
    return FrontDoor(capfd, before=("audit", "empirical"))


def state(folder: Path) -> dict[str, str]:
    """Return every file below a folder with its content's hash."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_a_member_attacks_its_own_releases(write_scenario, empirical, tmp_path):
    scenario, before = write_scenario(), state(tmp_path)
    out = tmp_path / "report"
    code, text, said = empirical("--scenario", scenario, "--platform", "beta", *FEW, "--out", out)
    assert code == 0
    assert "beta: claimed ε ≤ 8.00 at δ = 1e-06; the attack proves" in text
    assert "no contradiction" in text
    assert "not private" in text
    assert "verified" not in text.lower()
    assert re.search(r"canaries: run (\d+) of \1\n", said)
    assert "membership: run 2 of 2" in said
    found = json.loads((out / "empirical-beta.json").read_text(encoding="utf-8"))
    assert found["exit_code"] == 0
    assert found["plan"]["shares"] == [0.5, 0.5]  # the scenario's
    assert found["claimed_epsilon"] == pytest.approx(found["plan"]["epsilon"], rel=0.01)
    assert found["canaries"]["canaries"] == 400
    assert [m["private"] for m in found["membership"]] == [True, False]
    assert found["verdict"] in (out / "empirical-beta.md").read_text(encoding="utf-8")
    assert {file.name for file in out.iterdir()} == {"empirical-beta.json", "empirical-beta.md"}
    after = state(tmp_path)
    assert {name: after[name] for name in before} == before
    assert all("report" in name for name in set(after) - set(before))  # no ledger, no run


def test_the_same_seed_gives_the_same_report(write_scenario, empirical):
    scenario = write_scenario()

    def report(seed):
        few = ("--canaries", 100, "--runs", 2, "--seed", seed, "--format", "json")
        code, text, _ = empirical("--scenario", scenario, *few)
        assert code == 0
        document = json.loads(text)
        del document["seconds"]
        del document["canaries"]["seconds"]
        return document

    assert report(3) == report(3)
    assert report(3)["membership"] != report(4)["membership"]


def test_a_training_that_breaks_its_claim_is_refuted(write_scenario, empirical, monkeypatch):
    real = command.sources
    monkeypatch.setattr(command, "sources", lambda *a: (real(*a)[0], Scaled(real(*a)[1], 0.0)))
    more = ("--canaries", 1000, "--epsilon", 1, "--runs", 0, "--seed", 1)
    code, text, _ = empirical("--scenario", write_scenario(), *more)
    assert code == 3
    assert text.strip().endswith("with 95 % confidence: REFUTED")
    assert "Membership" not in text


def test_the_self_test_says_what_it_caught_and_missed(write_scenario, empirical, tmp_path):
    few = ("--self-test", "--quick", "--canaries", 20, "--seed", 1)
    code, text, said = empirical("--scenario", write_scenario(), *few, "--out", tmp_path / "report")
    assert code == 1  # twenty canaries prove nothing
    assert "alpha: 0 of 7 planted defects caught (missed: no noise, " in text
    assert "self-test 8 of 8" in said
    found = json.loads((tmp_path / "report" / "selftest-alpha.json").read_text(encoding="utf-8"))
    assert found["exit_code"] == 1
    assert len(found["selftest"]) == 8
    assert found["selftest"][0]["claimed"] == pytest.approx(4.0, rel=0.01)


@pytest.fixture
def site(shop_folder, tmp_path) -> Path:
    """A platform's site with a ledger and a vocabulary that it approved."""
    folder = tmp_path / "site"
    settings = SiteSettings(
        name="alpha",
        events=shop_folder / "alpha-events.csv",
        items=shop_folder / "alpha-items.csv",
        columns={"user": "customer", "item": "sku", "order": "time", "title": "name"},
        population_size=40,
        epsilon_cap=3.0,
        ledger=str(folder / "ledger.sqlite"),
        work=folder / "work",
        cache=folder / "cache",
        vocabulary=folder / "vocabulary.safetensors",
    )
    save_site(folder / "site.toml", settings)
    encoders = make_encoders(["hashed-words"])
    vocabulary = Vocabulary.empty().grown([published(read_catalogue(settings))], encoders, 5)
    settings.vocabulary.write_bytes(vocabulary_bytes(vocabulary))
    Ledger.create(folder / "ledger.sqlite", population="alpha", epsilon_cap=3.0, delta=1e-6)
    return folder / "site.toml"


def test_a_site_is_audited_without_touching_its_folder(site, empirical):
    before = state(site.parent)
    code, text, said = empirical("--site", site, *FEW)
    assert code == 0, said
    assert "alpha: claimed ε ≤ 3.00" in text  # its whole cap
    assert state(site.parent) == before


def test_a_site_s_ledger_need_not_even_be_there(site, empirical):
    (site.parent / "ledger.sqlite").unlink()
    before = state(site.parent)
    assert empirical("--site", site, *FEW, "--runs", 0)[0] == 0
    assert state(site.parent) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--canaries", 0), "canaries = 0"),
        (("--canaries", -3), "canaries = -3"),
        (("--canaries", 10**9), "each owns an edge of the vocabulary"),
        (("--epsilon", "nan"), "epsilon = nan"),
        (("--epsilon", "inf"), "epsilon = inf"),
        (("--epsilon", 0), "epsilon = 0"),
        (("--epsilon", "much"), "'much' is not a valid float"),
        (("--share", "nan"), "share = nan"),
        (("--share", 0), "share = 0"),
        (("--share", 1.5), "share = 1.5"),
        (("--self-test", "--epsilon", 0), "epsilon = 0"),
        (("--confidence", "nan"), "confidence = nan"),
        (("--confidence", 1), "confidence = 1"),
        (("--runs", -1), "runs = -1"),
        (("--seed", -1), "seed = -1"),
        (("--platform", "gamma"), "is no member of the scenario: choose alpha, beta"),
        (("--platform", "delta"), "is no member of the scenario: choose alpha, beta"),
        (("--out", "/dev/null/x"), "no report can be written here"),
        (("--site", "gone.toml", "--platform", "alpha"), "leave --scenario and --platform out"),
    ],
)
def test_unusable_options_are_refused_before_anything_is_released(
    write_scenario, empirical, options, message
):
    code, out, err = empirical("--scenario", write_scenario(), *options)
    assert code == 2
    assert message in err
    assert out == ""
    assert "run 1 of" not in err


def test_a_scenario_without_privacy_claims_nothing(write_scenario, empirical):
    scenario = write_scenario(epsilon='"none"')
    code, _, err = empirical("--scenario", scenario)
    assert code == 2
    assert "give --epsilon" in err
    few = ("--canaries", 50, "--runs", 0, "--epsilon", 8)
    assert empirical("--scenario", scenario, *few)[0] == 0


def test_unusable_sites_are_refused(site, empirical, tmp_path):
    assert empirical("--site", tmp_path / "gone.toml")[0] == 2
    code, _, err = empirical("--site", site, "--out", site.parent / "work" / "reports")
    assert code == 2
    assert "working folder" in err
    assert not (site.parent / "work").exists()


def test_what_weakens_the_claim_itself_is_said(write_scenario, empirical):
    scenario = write_scenario()
    text = scenario.read_text(encoding="utf-8").replace("[model]", "[task]\nresearch_k_core = 2\n[model]", 1)
    text = text.replace("share = 0.5", "share = 0.5\ndelta = 0.05")
    scenario.write_text(text, encoding="utf-8")
    code, _, err = empirical("--scenario", scenario, "--canaries", 20, "--runs", 0)
    assert code == 0
    assert "no privacy can be promised" in err
    assert "not below one over 40 shoppers" in err
    assert "20 canaries prove at most" in err
