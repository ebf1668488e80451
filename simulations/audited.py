"""What `fedcart audit empirical` attacks: the part that a site, or a member of a scenario, has in a run.

No folder is made.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from clients.audit import Subject
from clients.data.products import published
from clients.platform import HashableSite, PlatformEvents, read_events
from clients.products import Products, site_vocabulary
from clients.site import SiteSettings, load_site
from clients.training import ShopperEvents
from privacy.release import ReleasePlan
from shared_model.errors import BadInputError
from shared_model.features import make_encoders
from shared_model.table import release_share
from shared_model.vocabulary import Vocabulary
from simulations.folder import RunFolder, declared_size, site_of
from simulations.scenario import ModelSection, Scenario


@dataclass(frozen=True)
class Audited:
    """A platform's data, and how it would take part: at which ε (0: without privacy) and share, over which vocabulary."""

    site: SiteSettings
    data: PlatformEvents
    vocabulary: Vocabulary
    encoders: tuple[str, ...]
    epsilon: float
    share: float

    def subject(self, epsilon: float | None, share: float | None, seed: int) -> Subject:
        """Return what is attacked, under another claim where one is given; raise PlanError for numbers out of range."""
        if self.data.nobody is not None:
            raise self.data.nobody
        claim = self.epsilon if epsilon is None else epsilon
        if epsilon is None and not claim:
            raise BadInputError("The scenario trains without privacy, so nothing is claimed: give --epsilon.")
        part = self.share if share is None else share
        alone = part == 1 or not len(self.vocabulary.edges)
        plan = ReleasePlan.calibrated(
            epsilon=claim, delta=self.site.delta, shares=(1.0,) if alone else (part, 1.0 - part)
        )
        products = Products.of(self.vocabulary, self.data.catalogue, self.encoders, None)
        events = ShopperEvents.of(self.data.split, products.of_item)
        return Subject(self.site.name, events, self.vocabulary, plan, seed)


def audited_site(path: Path) -> Audited:
    """Return a site's part in a run over the vocabulary that it approved; its claim is its whole cap."""
    site = load_site(path)
    data, share = read_events(HashableSite(site)), release_share(site.population_size)
    return Audited(site, data, site_vocabulary(site), tuple(ModelSection().encoders), site.epsilon_cap, share)


def audited_member(scenario: Scenario, name: str | None) -> Audited:
    """Return a member's part in a scenario, the first member's without a name; raise BadInputError for no member.

    The vocabulary is that of all platforms' public catalogues, as in `fedcart simulate`.
    """
    members = [section.name for section in scenario.members]
    if name is not None and name not in members:
        raise BadInputError(f"--platform {name!r} is no member of the scenario: choose {', '.join(members)}.")
    nowhere = RunFolder(Path(tempfile.gettempdir()) / "fedcart-audit")  # named in the settings, never made
    sites, data = {}, {}
    for section in scenario.platform:
        site = site_of(nowhere, scenario, section, 1)
        data[section.name] = read_events(HashableSite(site))
        size = declared_size(section, len(data[section.name].split.sequences))
        sites[section.name] = site.model_copy(update={"population_size": size})
    encoders = tuple(scenario.model.encoders)
    vocabulary = Vocabulary.empty().grown(
        [published(d.catalogue) for d in data.values()], make_encoders(encoders), scenario.model.neighbours
    )
    share = scenario.privacy.share
    if share is None:
        share = release_share(sum(sites[member].population_size for member in members))
    which = name or members[0]
    return Audited(sites[which], data[which], vocabulary, encoders, scenario.epsilon, share)
