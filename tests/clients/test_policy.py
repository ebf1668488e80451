"""The platform's policy: what breaks it is refused, with a code that follows from request and settings alone."""

from datetime import UTC, datetime

import pytest

from clients.errors import PolicyError, SiteError
from clients.policy import approve, approved_bundles, require_bundle, require_plan
from clients.site import PolicySettings, SiteSettings, load_site, save_site
from federation.bundle import CLIENT_PACKAGES, build_bundle, digest, installed_code
from federation.errors import FolderError, WrongPartyError
from federation.kit import ModelTerms
from privacy.ledger import Budget

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def site(make_site) -> SiteSettings:
    return make_site(cap=None, epsilon_cap=8.0)


def budget(cap: float = 8.0) -> Budget:
    return Budget("toys", 0.0, 0.0, 0.0, cap, cap, 1e-6, 1)


def card_of(ask) -> ModelTerms:
    return ModelTerms(**{term: getattr(ask, term) for term in ModelTerms.model_fields})


def require(site, ask, *, card=None, cap=8.0, time=NOON, **policy):
    if policy:
        site = site.model_copy(update={"policy": PolicySettings(**policy)})
    require_plan(site, ask, card or card_of(ask), budget(cap), time)


def test_a_plan_within_the_policy_passes(site, ask):
    require(site, ask)
    require(site, ask, cap=2.0)
    require(site, ask, epsilon_per_run=8.0, quiet_hours=("13:00-11:59",))


@pytest.mark.parametrize(
    ("reason", "change", "policy"),
    [
        ("epsilon", {"epsilon": 8.01}, {}),
        ("epsilon", {"epsilon": 900.0}, {}),
        ("epsilon", {"epsilon": 0.0}, {}),
        ("epsilon", {}, {"epsilon_per_run": 7.9}),
        ("delta", {"delta": 1e-5}, {}),
        ("delta", {"delta": 1e-7}, {}),
        ("quiet-hours", {}, {"quiet_hours": ("08:00-20:00",)}),
        ("quiet-hours", {}, {"quiet_hours": ("20:00-12:01",)}),
        ("exchange", {}, {"exchange": ("ab" * 32,)}),
    ],
)
def test_what_breaks_it_has_its_code(site, ask, reason, change, policy):
    with pytest.raises(PolicyError) as refusal:
        require(site, ask.model_copy(update=change), **policy)
    assert refusal.value.code == f"policy.{reason}"


@pytest.mark.parametrize(
    "change",
    [
        {"encoders": "tinier"},
        {"encoder_identities": "[]"},
        {"width": 3},
        {"width": 0},
        {"history_length": 7},
    ],
)
def test_every_term_of_the_card_is_compared(site, ask, change):
    assert {next(iter(change))} <= set(ModelTerms.model_fields)
    with pytest.raises(PolicyError, match=next(iter(change))) as refusal:
        require(site, ask.model_copy(update=change), card=card_of(ask))
    assert refusal.value.code == "policy.model"


def test_a_listed_exchange_holds_the_card_too(site, ask):
    require(site, ask, exchange=(ask.spec.exchange.fingerprint, "ab" * 32))
    wider = ask.model_copy(update={"width": 3})
    with pytest.raises(PolicyError) as refusal:
        require(site, wider, exchange=(ask.spec.exchange.fingerprint,))
    assert refusal.value.code == "policy.exchange"


@pytest.mark.parametrize(
    ("limit", "most", "change"),
    [
        ("rounds", 5, {"rounds": 6}),
        ("local_steps", 1, {"local_steps": 2}),
        ("gradients", 10, {"local_steps": 2}),
        ("gradients", 10, {"sample_rate": 0.51}),
        ("clip_norm", 0.5, {"clip_norm": 0.51}),
        ("learning_rate", 0.05, {"learning_rate": 0.051}),
        ("learning_rate", 0.05, {"scalar_learning_rate": 0.051}),
        ("proximal", 0.0, {"proximal": 1e-9}),
        ("negatives", 8, {"negatives": 9}),
        ("targets", 3, {"targets": 4}),
    ],
)
def test_a_limit_is_met_exactly_and_one_more_is_refused(site, ask, limit, most, change):
    require(site, ask, limits={limit: most})
    with pytest.raises(PolicyError, match=rf"{limit} = .*allowed is {most:g}") as refusal:
        require(site, ask.model_copy(update=change), limits={limit: most})
    assert refusal.value.code == "policy.limits"


def test_by_default_the_largest_terms_of_all_are_refused_and_a_usual_run_passes(site, ask):
    usual = {"rounds": 100, "local_steps": 80, "clip_norm": 1.0, "proximal": 1.0, "negatives": 2048}
    require(site, ask.model_copy(update=usual))
    for change in ({"rounds": 10_000}, {"local_steps": 3000}, {"negatives": 100_000}, {"clip_norm": 100.0}):
        with pytest.raises(PolicyError):
            require(site, ask.model_copy(update=change))


def test_a_ledger_that_allows_more_than_the_settings_is_refused(site, ask):
    for cap in (8.1, float("inf"), float("nan")):
        with pytest.raises(PolicyError) as refusal:
            require(site, ask, cap=cap)
        assert refusal.value.code == "policy.cap"


def test_reproducible_noise_is_refused(site, ask):
    with pytest.raises(PolicyError) as refusal:
        require(site.model_copy(update={"reproducible_noise": True}), ask)
    assert refusal.value.code == "policy.noise"


def test_plain_training_only_where_it_is_allowed(site, ask):
    plain = ask.model_copy(update={"epsilon": 0.0})
    require(site.model_copy(update={"allow_plain_training": True}), plain)


def test_quiet_hours_are_local(site, ask):
    hours = {"quiet_hours": ("12:30-13:30",), "timezone": "Europe/Berlin"}
    with pytest.raises(PolicyError):
        require(site, ask, **hours)
    require(site, ask, time=NOON.replace(hour=13), **hours)
    require(site, ask, time=NOON.replace(month=7), **hours)  # summer time: 14:00 there


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('quiet_hours = ["8-20"]', "policy.quiet_hours.0"),
        ('quiet_hours = ["24:00-01:00"]', "policy.quiet_hours.0"),
        ('timezone = "Nowhere/City"', "is no time zone"),
        ('timezone = "../etc/passwd"', "is no time zone"),
        ('timezone = "Europe"', "is no time zone"),
        ('bundles = ["abc"]', "policy.bundles.0"),
        ("epsilon_per_run = nan", "policy.epsilon_per_run"),
        ('log = "everything"', "policy.log"),
        ("quiet_hour = []", "did you mean 'quiet_hours'"),
    ],
)
def test_a_policy_that_cannot_be_used_is_named(tmp_path, site, section, said):
    path = tmp_path / "client.toml"
    save_site(path, site.model_copy(update={"policy": PolicySettings()}))
    text = path.read_text()
    key = section.split(" ")[0]
    lines = [line for line in text.splitlines() if not line.startswith(f"{key} =")]
    place = lines.index("[policy]") + 1
    path.write_text("\n".join([*lines[:place], section, *lines[place:]]))
    with pytest.raises(SiteError, match=said):
        load_site(path)


def test_a_limit_that_cannot_be_used_is_named(tmp_path, site):
    path = tmp_path / "client.toml"
    save_site(path, site)
    text = path.read_text()
    for line, said in (
        ("seconds = 0", "policy.limits.seconds = 0"),
        ("step = 5", "limits.step: there is no such"),
    ):
        path.write_text(text.replace("seconds = 3600.0", line))
        with pytest.raises(SiteError, match=said):
            load_site(path)


# Approvals


@pytest.fixture(scope="module")
def bundle() -> bytes:
    return build_bundle()[1]


@pytest.fixture(scope="module")
def installed():
    return installed_code(CLIENT_PACKAGES)


def test_nothing_is_approved_until_somebody_does(site, bundle, installed, tmp_path):
    file = tmp_path / "approved"
    with pytest.raises(PolicyError, match="is not approved") as refusal:
        require_bundle(site, file, bundle, installed)
    assert refusal.value.code == "policy.bundle"
    assert approve(file, bundle, installed, NOON)
    assert not approve(file, bundle, installed, NOON)
    require_bundle(site, file, bundle, installed)
    assert approved_bundles(file) == {digest(bundle)}
    assert "approved 2026-03-01 12:00 UTC" in file.read_text()


def test_an_approval_in_the_settings_counts(site, bundle, installed, tmp_path):
    named = site.model_copy(update={"policy": PolicySettings(bundles=(digest(bundle),))})
    require_bundle(named, tmp_path / "none", bundle, installed)


def test_one_byte_more_is_another_bundle(site, bundle, installed, tmp_path):
    approve(tmp_path / "approved", bundle, installed, NOON)
    with pytest.raises(PolicyError):
        require_bundle(site, tmp_path / "approved", bundle + b"\n", installed)


def test_code_that_is_not_installed_cannot_be_approved(bundle, installed, tmp_path):
    file = tmp_path / "approved"
    with pytest.raises(PolicyError, match="is not the code that is installed here"):
        approve(file, bundle, installed | {"clients/app.py": b"older"}, NOON)
    with pytest.raises(WrongPartyError):
        approve(file, b"something", installed, NOON)
    assert not file.exists()


def test_an_approved_bundle_is_refused_after_the_installed_code_has_changed(
    site, bundle, installed, tmp_path
):
    approve(tmp_path / "approved", bundle, installed, NOON)
    newer = installed | {"clients/app.py": b"newer"}
    with pytest.raises(PolicyError, match="other code is installed now") as refusal:
        require_bundle(site, tmp_path / "approved", bundle, newer)
    assert refusal.value.code == "policy.bundle"


def test_approving_by_mistake_what_is_no_bundle_runs_nothing(site, installed, tmp_path):
    file = tmp_path / "approved"
    file.write_text(f"{digest(b'evil')}  by hand\n")
    with pytest.raises(PolicyError, match="cannot be unpacked"):
        require_bundle(site, file, b"evil", installed)


def test_remarks_and_deleted_lines(tmp_path, bundle, installed):
    file = tmp_path / "approved"
    one, two = "ab" * 32, "cd" * 32
    file.write_text(f"# remark\n\n{one}  anna\n{two}")
    assert approved_bundles(file) == {one, two}
    approve(file, bundle, installed, NOON)
    assert approved_bundles(file) == {one, two, digest(bundle)}
    assert file.read_text().startswith("# remark\n"), "what was there stays"


@pytest.mark.parametrize("text", ["abc\n", "AB" * 32, "ab" * 33, " " + "ab" * 32, "ab" * 32 + "x"])
def test_a_list_that_is_unclear_approves_nothing(tmp_path, text):
    file = tmp_path / "approved"
    file.write_text(text)
    with pytest.raises(SiteError, match="line 1"):
        approved_bundles(file)
    file.write_bytes(b"\xff")
    with pytest.raises(FolderError):
        approved_bundles(file)
