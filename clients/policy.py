"""What a platform allows, enforced by its own installed code before anything of a request is used.

Each refusal has a code that follows from the request and the platform's declared settings alone, never from its
data; the words stay on the platform.

| request                                                      | code               |
|--------------------------------------------------------------|--------------------|
| another kind of task or message than training                | policy.task        |
| bundle not approved, or not the installed code               | policy.bundle      |
| within quiet hours                                           | policy.quiet-hours |
| ε above the cap or the limit of a run; none, if not allowed  | policy.epsilon     |
| another δ than declared                                      | policy.delta       |
| other encoders, width or history than the federation's card  | policy.model       |
| tensors that the settings do not list, where they list some  | policy.exchange    |
| a number beyond `[policy.limits]`, or too much work          | policy.limits      |
| the ledger allows more than `client.toml`                    | policy.cap         |
| reproducible noise is set, which protects nobody             | policy.noise       |
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from clients.errors import PolicyError, SiteError
from clients.site import SiteSettings
from federation.bundle import differences, digest
from federation.errors import FolderError, WrongPartyError
from federation.files import PUBLIC, replace
from federation.kit import ModelTerms
from privacy.ledger import Budget
from shared_model.instructions import TrainInstructions

_LINE = re.compile(r"(?P<digest>[0-9a-f]{64})(\s.*)?")
_HEADER = (
    "# Bundles in whose runs this platform takes part: SHA-256, then a remark. Delete a line to refuse it.\n"
)


def approved_bundles(file: Path) -> set[str]:
    """Return the digests in a list of approvals, none if there is no list; raise SiteError for a line that is none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return set()
    except (OSError, UnicodeDecodeError) as error:
        raise FolderError(f"{file}: the approved bundles cannot be read: {error}.") from None
    approved = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise SiteError(
                f"{file}, line {number}: {line[:80]!r} does not begin with a SHA-256 of 64 hex digits."
            )
        approved.add(match["digest"])
    return approved


def approve(file: Path, data: bytes, installed: Mapping[str, bytes], time: datetime) -> bool:
    """Add a bundle to the list; return False if it stood there already.

    Raises PolicyError if its client side is not the installed code, WrongPartyError if it is no bundle.
    """
    found = differences(data, installed)
    if found:
        raise PolicyError(
            f"The bundle is not the code that is installed here ({len(found)} differences: {'; '.join(found[:5])}). "
            "What is installed is what would run, so install the federation's version of fedcart first.",
            "bundle",
        )
    if digest(data) in approved_bundles(file):
        return False
    before = file.read_text(encoding="utf-8") if file.exists() else _HEADER
    end = "" if before.endswith("\n") else "\n"
    line = f"{digest(data)}  approved {time.astimezone(UTC):%Y-%m-%d %H:%M} UTC\n"
    replace(file, f"{before}{end}{line}".encode(), PUBLIC)
    return True


def require_bundle(site: SiteSettings, approvals: Path, data: bytes, installed: Mapping[str, bytes]) -> None:
    """Raise PolicyError unless a bundle is approved and its client side is the installed code."""
    name = digest(data)
    if name not in approved_bundles(approvals) | set(site.policy.bundles):
        raise PolicyError(
            f"{site.name}: bundle {name} is not approved. If it should be: fedcart client approve BUNDLE.",
            "bundle",
        )
    try:
        found = differences(data, installed)
    except WrongPartyError as error:
        raise PolicyError(f"{site.name}: bundle {name}: {error}", "bundle") from None
    if found:
        raise PolicyError(
            f"{site.name}: bundle {name} was approved, but other code is installed now ({'; '.join(found[:5])}). "
            "Approve the bundle of the installed version.",
            "bundle",
        )


def require_plan(
    site: SiteSettings, ask: TrainInstructions, card: ModelTerms, budget: Budget, time: datetime
) -> None:
    """Raise PolicyError unless a request is of the federation's card and within what the platform's settings allow."""
    policy, name = site.policy, site.name
    if site.reproducible_noise:
        raise PolicyError(f"{name}: reproducible_noise is for simulations: it protects nobody.", "noise")
    local = time.astimezone(ZoneInfo(policy.timezone)).strftime("%H:%M")
    if any(_within(local, hours) for hours in policy.quiet_hours):
        raise PolicyError(f"{name}: {local} ({policy.timezone}) is within quiet hours.", "quiet-hours")
    limit = min(site.epsilon_cap, policy.epsilon_per_run or site.epsilon_cap)
    if not ask.epsilon <= limit or (ask.epsilon == 0 and not site.allow_plain_training):
        raise PolicyError(
            f"{name}: the run asks for epsilon {ask.epsilon:g}, allowed is {limit:g}.", "epsilon"
        )
    if ask.delta != site.delta:
        raise PolicyError(
            f"{name}: the run asks for delta {ask.delta:g}, declared is {site.delta:g}.", "delta"
        )
    for term, agreed in card.model_dump().items():
        if getattr(ask, term) != agreed:
            raise PolicyError(
                f"{name}: the run asks for {term} = {getattr(ask, term)!r}, the federation's card says {agreed!r}.",
                "model",
            )
    exchange = card.spec.exchange.fingerprint
    if exchange not in (policy.exchange or (exchange,)):
        raise PolicyError(
            f"{name}: the run exchanges tensors of spec {exchange}, which is not allowed.", "exchange"
        )
    _require_limits(site, ask)
    if not budget.cap <= site.epsilon_cap:
        raise PolicyError(
            f"{name}: the ledger's cap is {budget.cap:g}, client.toml's is {site.epsilon_cap:g}. Put the lower one "
            "into the ledger: fedcart client cap.",
            "cap",
        )


def _require_limits(site: SiteSettings, ask: TrainInstructions) -> None:
    """Raise PolicyError if a number of a request is beyond the platform's limits."""
    limits = site.policy.limits
    for asked, value, limit in (
        ("rounds", ask.rounds, limits.rounds),
        ("local_steps", ask.local_steps, limits.local_steps),
        ("gradients", ask.local_steps * ask.sample_rate * site.population_size, limits.gradients),
        ("clip_norm", ask.clip_norm, limits.clip_norm),
        ("learning_rate", max(ask.learning_rate, ask.scalar_learning_rate), limits.learning_rate),
        ("proximal", ask.proximal, limits.proximal),
        ("negatives", ask.negatives, limits.negatives),
        ("targets", ask.targets, limits.targets),
    ):
        if not value <= limit:
            raise PolicyError(
                f"{site.name}: the run asks for {asked} = {value:g}, allowed is {limit:g} ([policy.limits]).",
                "limits",
            )


def _within(time: str, hours: str) -> bool:
    """Whether HH:MM is within HH:MM-HH:MM, which may pass midnight; the end is outside.

    >>> [_within(t, "22:00-06:00") for t in ("21:59", "22:00", "05:59", "06:00")]
    [False, True, True, False]
    """
    start, end = hours.split("-")
    return start <= time < end if start <= end else time >= start or time < end
