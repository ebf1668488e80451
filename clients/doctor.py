"""`fedcart client doctor`: is this platform ready to train? What it says may quote data, and stays here."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import torch

from clients.bfloat16 import multiplies_bfloat16
from clients.data import PlatformData
from clients.folder import ClientFolder, Membership
from clients.own_ledger import open_ledger
from clients.platform import check_encoders, read_data
from clients.policy import approved_bundles
from clients.products import Products, site_vocabulary
from clients.registry import RegistryClient
from clients.serving.door import Door
from clients.serving.tls import server_credentials
from clients.site import SiteSettings
from federation.certificates import read_certificates
from federation.checkup import Finding, ProblemError, examine, examine_all
from federation.files import read_private
from federation.keys import node_text, signing_text
from federation.machine import check_disk, check_flower, check_memory, current_memory
from federation.reach import Sight, check_clock, look
from federation.registry.card import require_signer
from federation.registry.versions import read_list
from federation.versions import FLOWER
from privacy.ledger.location import shown
from privacy.release import ReleasePlan
from shared_model.device import resolve_device
from shared_model.table import TYPICAL_PRODUCTS, release_share

_HEARD = 30 * math.sqrt(TYPICAL_PRODUCTS)
"""So many shoppers for each σ: a product that a tenth of them have then stands three σ out of the noise."""
WARN_BEFORE = timedelta(days=30)


@dataclass(frozen=True)
class Target:
    """The run that the platform wants to be ready for; ε is the policy's limit where None."""

    epsilon: float | None


def examine_client(folder: ClientFolder, target: Target, time: datetime) -> list[Finding]:
    """Return the findings of all checks, in the order in which to mend them."""
    settings, flower = examine("settings", lambda: _settings(folder)), examine("flower", check_flower)
    if not settings.passed:
        return [settings, flower]
    patient = Patient(folder, folder.site(), target, time)
    checks: list[tuple[str, Callable[[], str]]] = [
        ("kit", patient.kit),
        ("keys", patient.keys),
        ("address", patient.address),
        ("clock", patient.clock),
        ("models", patient.models),
        ("bundles", patient.bundles),
        ("data", patient.data),
        ("encoders", patient.encoders),
        ("vocabulary", patient.vocabulary),
        ("shoppers", patient.shoppers),
        ("ledger", patient.ledger),
        ("budget", patient.budget),
        ("disk", patient.disk),
        ("memory", patient.memory),
        ("device", patient.device),
        ("serving", patient.serving),
    ]
    return [settings, *examine_all(checks), flower]


def _settings(folder: ClientFolder) -> str:
    site = folder.site()
    if site.federation is None:
        raise ProblemError(
            f"{folder.site_file} names no federation", 'Write federation = "…", as its operator calls it.'
        )
    for name in ("reproducible_noise", "allow_plain_training"):
        if getattr(site, name):
            raise ProblemError(
                f"{name} = true is for research on public data: no shopper is protected then",
                f"Delete it from {folder.site_file}.",
            )
    return f"{site.name}, of federation {site.federation}"


@dataclass(frozen=True)
class Patient:
    """One platform's checks: each returns what is well, or raises."""

    folder: ClientFolder
    site: SiteSettings
    target: Target
    time: datetime

    @cached_property
    def _membership(self) -> Membership:
        return self.folder.membership()

    @cached_property
    def _loaded(self) -> PlatformData:
        return read_data(self.site)

    @cached_property
    def _sight(self) -> Sight:
        return look(self._membership.kit.card.address, self._membership.authorities)

    @cached_property
    def _plan(self) -> ReleasePlan:
        site, target = self.site, self.target
        epsilon = target.epsilon or min(site.epsilon_cap, site.policy.epsilon_per_run or site.epsilon_cap)
        share = release_share(site.population_size)
        shares = (share, 1 - share) if share < 1 else (1.0,)
        return ReleasePlan.calibrated(epsilon=epsilon, delta=site.delta, shares=shares)

    def keys(self) -> str:
        """Keys and secret are there, of their kind, and for their owner alone."""
        record = self.folder.current()
        keys = self.folder.keys(1 if record is None else record.keys)
        public = signing_text(keys.identity()), node_text(keys.node())
        read_private(self.folder.secret)
        if record is not None:
            kit = self._membership.kit
            if public != (kit.identity_key, kit.node_key):
                raise ProblemError(
                    f"the keys in {keys.folder} are not those of the installed kit",
                    "Restore the folder from a backup, or change the keys: fedcart client request --rotate.",
                )
        return f"generation {keys.number}, readable by their owner only"

    def kit(self) -> str:
        """The installed kit is whole, its authorities last, and it agrees with what is installed."""
        kit = self._membership.kit
        named = (self.site.name, self.site.federation)
        if named != (kit.platform, kit.card.federation):
            raise ProblemError(
                f"the kit is for {kit.platform} of {kit.card.federation}, client.toml names {named[0]} of {named[1]}",
                "Put the names back; under another name a platform enrols anew: fedcart client init.",
            )
        ends = max(authority.ends for authority in read_certificates(kit.card.certificates.encode()))
        if self.time > ends - WARN_BEFORE:
            raise ProblemError(
                f"the federation's certificate authority ends on {ends:%Y-%m-%d}",
                "Ask the operator for a new kit.",
            )
        if kit.card.flower != FLOWER:
            raise ProblemError(
                f"the federation runs flwr {kit.card.flower}, this platform {FLOWER}",
                "Install the federation's version of fedcart, or ask the operator to install this one.",
            )
        return f"kit {kit.number} of {kit.card.federation}; authority until {ends:%Y-%m-%d}"

    def address(self) -> str:
        """The server answers under its name, with a certificate of the federation that lasts."""
        address, ends = self._membership.kit.card.address, self._sight.certificate.ends
        if self.time > ends - WARN_BEFORE / 2:
            raise ProblemError(
                f"{address}: its certificate ends on {ends:%Y-%m-%d}",
                "Tell the operator: fedcart server renew.",
            )
        return f"{address} answers; TLS and name are right; certificate until {ends:%Y-%m-%d}"

    def clock(self) -> str:
        """This clock agrees with the server's."""
        ahead = self._sight.ahead
        if ahead is None:
            raise ProblemError(
                "it cannot be compared: the server does not tell its time",
                "Compare this clock with another by hand.",
            )
        return check_clock(ahead)

    def models(self) -> str:
        """The registry of models answers this platform; a card without one has none to ask."""
        card = self._membership.kit.card
        if card.registry is None:
            return "the federation's card names no registry"
        with RegistryClient(card.registry, self._membership) as client:
            data = client.list_bytes()
        if not data:
            return f"{card.registry} answers; nothing is published yet"
        listing = read_list(data, card.registry)
        require_signer(listing, card.federation, self._membership.signing_key, card.registry)
        return f"{card.registry} answers; version {listing.number(listing.current)} is current"

    def bundles(self) -> str:
        """At least one bundle is approved."""
        count = len(approved_bundles(self.folder.approvals) | set(self.site.policy.bundles))
        if not count:
            raise ProblemError(
                "no app bundle is approved, so every run is refused",
                "Get the bundle from the operator: fedcart client approve BUNDLE.",
            )
        return f"{count} approved"

    def data(self) -> str:
        """The data can be read, and most of it can be used."""
        loaded = self._loaded
        for report in (loaded.items_report, loaded.events_report):
            if report.tainted or report.kept * 2 < report.read:
                why = ", ".join(
                    f"{rows:,} {reason.replace('_', ' ')}" for reason, rows in report.dropped.items()
                )
                raise ProblemError(
                    f"{report.source}: only {report.kept:,} of {report.read:,} rows can be used ({why})"
                    if not report.tainted
                    else "research_k_core looks at all shoppers together, so no privacy can be promised",
                    "Correct the files, or [columns] and [task] in client.toml.",
                )
        kept = loaded.events_report
        events = f"{kept.kept:,} of {kept.read:,} events of {len(loaded.sequences):,} shoppers"
        return f"{len(loaded.catalogue):,} items; {events}"

    def shoppers(self) -> str:
        """δ is below 1/n, the declared size is about right, and the noise leaves something to learn."""
        count, site, plan = len(self._loaded.sequences), self.site, self._plan
        largest = max(count, site.population_size)
        if site.delta * largest >= 1:
            raise ProblemError(
                f"delta = {site.delta:g} is not below 1/{largest:,}: a whole shopper could leak within it",
                f"A ledger's delta never changes: start over with --delta {10 ** -math.ceil(math.log10(largest) + 1):g}.",
            )
        if not 0.5 <= site.population_size / max(count, 1) <= 2:
            raise ProblemError(
                f"population_size = {site.population_size:,} is declared, the data has {count:,} usable shoppers: "
                "a larger sum than declared is refused by the server",
                "Declare a rounded number of about this size in client.toml, and tell the operator.",
            )
        enough = math.ceil(_HEARD * plan.noise_of(0))
        if count < enough:
            raise ProblemError(
                f"{count:,} shoppers are few: through the noise of ε = {plan.epsilon:g}, the federation would not even "
                f"hear which products a tenth of them have (about {enough:,} would do)",
                "Take part all the same (a platform keeps its own layer where the federation does not help), or ask for "
                "a larger ε.",
            )
        return f"{count:,}, {count / enough:.1f} times what ε = {plan.epsilon:g} needs"

    def vocabulary(self) -> str:
        """The federation's vocabulary is approved here, and knows some of the catalogue."""
        vocabulary = site_vocabulary(self.site)
        model = self._membership.kit.card.model
        known = Products.of(vocabulary, self._loaded.catalogue, model.encoder_names, None).known
        items = len(self._loaded.catalogue)
        if not known:
            raise ProblemError(
                f"none of the {items:,} items is a product of the federation's vocabulary {vocabulary.number}: this "
                "platform would give nothing and get nothing",
                "Send the operator your catalogue: fedcart client catalogue --out FILE. It may take part all the same.",
            )
        return f"version {vocabulary.number}, {known:,} of {items:,} items are in it"

    def encoders(self) -> str:
        """The federation's encoders are installed, and are the same."""
        model = self._membership.kit.card.model
        check_encoders(model.encoder_names, model.identities)
        return ", ".join(map(str, model.identities))

    def ledger(self) -> str:
        """The ledger is whole and can be written."""
        ledger = open_ledger(self.site)
        report = ledger.verify()
        if not report.ok:
            raise ProblemError(
                "; ".join(finding.message for finding in report.findings),
                "Nothing is trained until it is restored: fedcart audit verify LEDGER.",
            )
        ledger.check_writable()
        where = f" at {shown(self.site.ledger)}" if "://" in self.site.ledger else ""
        return f"{report.entries} entries, whole, writable{where}"

    def budget(self) -> str:
        """The ledger's cap is the settings', and there is room for the run."""
        ledger = open_ledger(self.site)
        budget, site, plan = ledger.budget(), self.site, self._plan
        if budget.delta != site.delta:
            raise ProblemError(
                f"the ledger's delta is {budget.delta:g}, client.toml's is {site.delta:g}",
                f"A ledger's delta never changes: write delta = {budget.delta:g} in client.toml.",
            )
        if budget.cap != site.epsilon_cap:
            raise ProblemError(
                f"the ledger's cap is {budget.cap:g}, client.toml's is {site.epsilon_cap:g}",
                f"fedcart client cap {site.epsilon_cap:g} --reason …",
            )
        preview = ledger.preview(plan.event)
        if not preview.allowed:
            raise ProblemError(
                f"a run of ε = {plan.epsilon:g} would take it from {preview.before:.2f} to {preview.after:.2f} of "
                f"{preview.cap:g}: it would be refused",
                "Who answers for the shoppers' privacy may raise epsilon_cap in client.toml, then: fedcart client cap.",
            )
        after = f"a run of ε = {plan.epsilon:g} would reach {preview.after:.2f}"
        return f"{budget.committed:.2f} of {budget.cap:g} spent; {after}"

    def disk(self) -> str:
        """There is room for ledger, outbox and features."""
        folders = [self.site.work, self.site.cache, self.folder.path]
        if "://" not in self.site.ledger:
            folders.append(Path(self.site.ledger).parent)
        return check_disk(folders)

    def memory(self) -> str:
        """There is room for the data as it was loaded, its features, and the table."""
        spec = self._membership.kit.card.model.spec
        features = 3 * 4 * len(self._loaded.catalogue) * spec.feature_width
        vocabulary = site_vocabulary(self.site)
        sums = 4 * 8 * (len(vocabulary) + len(vocabulary.edges))
        return check_memory(current_memory() + features + sums)

    def serving(self) -> str:
        """Who asks for lists must show something: the token, or a certificate."""
        settings = self.site.serving
        Door.of(settings)
        if settings.certificate is not None:
            server_credentials(settings, self.time)
        if not settings.without_token:
            return f"who calls {settings.host}:{settings.port} must show the token in {settings.token}"
        if settings.client_ca is None:
            raise ProblemError(
                f"without_token = true: whoever reaches {settings.host}:{settings.port}, any account of this machine, "
                "reads every shopper's profile",
                f"Delete it from {self.folder.site_file}; callers send the token (docs/serving.md).",
            )
        return f"who calls {settings.host}:{settings.port} must have a certificate of {settings.client_ca}"

    def device(self) -> str:
        """What `client.toml` wants to compute on is there; a precision that this processor is slow at is named."""
        device = resolve_device(self.site.compute.device)
        if device.type == "cuda":
            return f"cuda ({torch.cuda.get_device_name()})"
        found = f"{device.type} ({os.cpu_count()} cores)"
        if device.type == "cpu" and self.site.compute.scoring == "bfloat16" and not multiplies_bfloat16():
            found += (
                '; compute.scoring = "bfloat16" is slow on this processor, "float32" is several times faster'
            )
        return found
