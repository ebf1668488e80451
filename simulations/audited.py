"""What `fedcart audit empirical` attacks: the training of a site, or of a member of a scenario. No folder is made."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from clients.audit import Subject, subject_of
from clients.platform import HashableSite, Platform, prepare_platform
from clients.site import SiteSettings, load_site
from clients.training import LocalRecipe
from privacy.plan import PrivacyPlan
from shared_model.errors import BadInputError
from simulations.folder import RunFolder, cache_folder, declared_size, site_of
from simulations.scenario import FederationSection, ModelSection, PrivacySection, Scenario

ROOM = 16
"""Width of the residual that gives canaries room: each owns a parameter, and a few scalars have none to give."""


@dataclass(frozen=True)
class Claim:
    """What is claimed of the training; None where the scenario or the defaults of one decide."""

    epsilon: float | None = None
    steps: int | None = None
    sample_rate: float | None = None
    clip_norm: float | None = None


@dataclass(frozen=True)
class Audited:
    """A platform's data, and how it would take part.

    A model of scalars alone (`width = 0`) is attacked with a residual of width `ROOM` beside them: sampling, clipping,
    noise and accounting are the same, and they are what is on trial.
    """

    site: SiteSettings
    model: ModelSection
    federation: FederationSection
    privacy: PrivacySection

    def platform(self) -> Platform:
        """Load the data; only the cache of item features, which are public, is ever written."""
        model = self.model
        return prepare_platform(
            HashableSite(self.site), tuple(model.encoders), model.width or ROOM, model.history_length
        ).require_shoppers()

    def subject(self, platform: Platform, claim: Claim, seed: int) -> Subject:
        """Return the training under the claim; raise PlanError for numbers that cannot be used."""
        plan = PrivacyPlan.calibrated(
            epsilon=_or(claim.epsilon, self.privacy.epsilon),
            delta=self.site.delta,
            clip_norm=_or(claim.clip_norm, self.privacy.clip_norm),
            sample_rate=_or(claim.sample_rate, self.privacy.sample_rate),
            population_size=self.site.population_size,
            steps=self.federation.rounds * self.federation.local_steps
            if claim.steps is None
            else claim.steps,
        )
        recipe = LocalRecipe(
            steps=min(self.federation.local_steps, plan.steps),
            sample_rate=plan.sample_rate,
            learning_rate=self.model.learning_rate,
            scalar_learning_rate=self.model.scalar_learning_rate,
            negatives=self.model.negatives,
        )
        return subject_of(
            platform,
            recipe,
            plan,
            targets=self.model.targets,
            seed=seed,
            compile=self.site.compute.compile,
        )


def _or(given: float | None, otherwise: float | str) -> float:
    if given is not None:
        return given
    if isinstance(otherwise, str):
        raise BadInputError("The scenario trains without privacy, so nothing is claimed: give --epsilon.")
    return otherwise


def audited_site(path: Path) -> Audited:
    """Return a site's training by the default recipe; its claim is its whole cap unless another is given."""
    site = load_site(path).model_copy(update={"cache": cache_folder() / "features"})
    privacy = PrivacySection(epsilon=site.epsilon_cap, delta=site.delta)
    return Audited(site, ModelSection(), FederationSection(), privacy)


def audited_member(scenario: Scenario, name: str | None) -> Audited:
    """Return a member's training in a scenario, the first member's without a name; raise BadInputError for no member."""
    members = {section.name: section for section in scenario.members}
    if name is not None and name not in members:
        raise BadInputError(f"--platform {name!r} is no member of the scenario: choose {', '.join(members)}.")
    section = members[name] if name is not None else scenario.members[0]
    nowhere = RunFolder(Path(tempfile.gettempdir()) / "fedcart-audit")  # named in the settings, never made
    site = site_of(nowhere, scenario, section, section.population_size or 1)
    audited = Audited(site, scenario.model, scenario.federation, scenario.privacy)
    if section.population_size is not None:
        return audited
    size = declared_size(section, len(audited.platform()))
    return replace(audited, site=site.model_copy(update={"population_size": size}))
