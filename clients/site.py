"""A platform's own settings: where its data is, what it allows, where its ledger lies. TOML, validated."""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from zoneinfo import ZoneInfo

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from clients.data.sources.settings import EventSource, FeedbackSource, ItemSource
from clients.errors import SiteError
from federation.address import checked_address

SERVING_TOKEN = "keys/serving.token"  # noqa: S105  (a path)
"""Where `fedcart client init` puts the token of the platform's service."""
Compile = Literal["auto", "always", "never"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ImageModel = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Images = dict[ImageModel, Path]
_HOURS = r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskSettings(_Section):
    """What the platform asks of a recommendation, which decides how events are held out."""

    first_purchases: bool = False
    """Keep only the first event of each item of a shopper, for trades in which everything is bought again."""
    hold_out: Literal["basket", "event"] = "basket"
    """Hold out whole baskets, or single events given the rest of their basket (in an order that says nothing)."""
    filter_seen: bool = True
    """Leave out of every list what the shopper had before."""
    min_events: Annotated[int, Field(ge=1)] = 3
    """Shoppers with fewer usable events are left out."""
    research_k_core: Annotated[int, Field(ge=2)] | None = None
    """Drop items and shoppers with fewer events, again and again: for research on public data only. It is a
    function of all shoppers, so no ε may be claimed: the run is tainted and a real client refuses."""


class LimitSettings(_Section):
    """`[policy.limits]`: the most that a run may ask for, each within the range of `shared_model.instructions`."""

    rounds: Annotated[int, Field(ge=1)] = 1000
    local_steps: Annotated[int, Field(ge=1)] = 1000
    """Steps of one round."""
    gradients: Annotated[int, Field(ge=1)] = 20_000_000
    """Gradients of one round: steps × sample rate × declared number of shoppers."""
    seconds: Positive = 3600.0
    """Seconds that the training of one round may take. Then the round ends, and sends the tensors that it began with."""
    clip_norm: Positive = 10.0
    learning_rate: Positive = 1.0
    """Of residual and scalars alike."""
    proximal: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10.0
    negatives: Annotated[int, Field(ge=1)] = 10_000
    targets: Annotated[int, Field(ge=1)] = 100


class PolicySettings(_Section):
    """What a deployed platform allows the federation to ask; enforced by `clients.policy`."""

    bundles: tuple[Sha256, ...] = ()
    """Approved app bundles, beside those of `fedcart client approve`; no other bundle's run is taken part in."""
    exchange: tuple[Sha256, ...] = ()
    """Fingerprints of what may be exchanged; where some are listed, the federation's card must be of one of them."""
    epsilon_per_run: Positive | None = None
    """The most that one run may ask for; the cap where left out."""
    limits: LimitSettings = LimitSettings()
    quiet_hours: tuple[Annotated[str, Field(pattern=_HOURS)], ...] = ()
    """Times of day, such as "22:00-06:00", in which nothing is trained."""
    timezone: str = "UTC"
    log: Literal["codes", "messages"] = "codes"
    """What the worker writes to its log: codes only, or also messages, which may quote a value from the data."""

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ValueError, OSError, KeyError):
            raise ValueError("is no time zone; write one such as Europe/Berlin") from None
        return value


class MetricsSettings(_Section):
    """Where `fedcart client start` answers Prometheus, host:port; nowhere where left out. It has no authentication, and
    shows ε: it is for this platform's own people."""

    address: Annotated[str, AfterValidator(checked_address)] | None = None


class NodeSettings(_Section):
    """Where Flower's SuperNode listens on this machine, for the platform's own worker only."""

    port: Annotated[int, Field(ge=1, le=65535)] = 9094
    health_port: Annotated[int, Field(ge=1, le=65535)] = 9095


class ComputeSettings(_Section):
    """How this machine computes. It decides speed and last bits, never what is private."""

    device: Device = "auto"
    """Where features, gradients and scores are: "cuda", "mps", "cpu", or the fastest of them that is there. With "cpu" no
    GPU is visible to a deployed client."""
    scoring: Literal["float32", "bfloat16"] = "float32"
    """The precision in which items are scored. "bfloat16" needs half the memory traffic and moves few ranks; gradients
    and clipping are float32 always."""
    compile: Compile = "auto"
    """Whether per-shopper gradients are compiled, which needs a C++ compiler: "auto" for long runs on a CPU, "always"
    or "never". Without a compiler they are computed as they are."""


class ServingSettings(_Section):
    """How `fedcart client serve` answers; read by nobody else."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 9500
    """0 takes any free port, which is said."""
    certificate: Path | None = None
    """PEM file of the service's certificate; with `key` it serves TLS. Needed on any address but this machine's own."""
    key: Path | None = None
    client_ca: Path | None = None
    """PEM file of the authority of callers' certificates: then callers without one are refused (mTLS)."""
    token: Path = Path(SERVING_TOKEN)
    """A file that only its owner may read, with the token that every caller shows."""
    without_token: bool = False
    """Ask nobody for a token: who reaches the port reads every shopper's profile, also other accounts of this machine.
    Beyond this machine only where `client_ca` is set."""
    out_of_stock: Path | None = None
    """A text file with the ids of the items that are not in stock, one a line; read again when it changes."""
    index: Literal["auto", "exact", "approximate"] = "auto"
    exact_items: Annotated[int, Field(ge=1)] = 10_000
    """With "auto": the largest catalogue that is scored whole; any, where faiss is not installed."""
    arms: dict[Literal["model", "prior"], Annotated[float, Field(ge=0, le=1)]] = {"model": 1.0}
    """The parts of the shoppers that get lists of the adopted model and of the prior."""
    compare: Literal["shoppers", "interleaved"] = "shoppers"
    """How arms are compared: each shopper gets lists of one arm, or all get lists that both made together."""
    waiting: Annotated[int, Field(ge=1)] = 256
    """At most so many questions wait; the next one is told to come again."""
    seconds: Positive = 5.0
    """How long a question may take, where its caller sets no shorter time."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not abs(sum(self.arms.values()) - 1) < 1e-9:
            raise ValueError(f"arms = {self.arms}: the shares must add up to 1")
        if self.compare == "interleaved" and sum(share > 0 for share in self.arms.values()) < 2:
            raise ValueError(
                'compare = "interleaved" needs both arms: arms = { model = 0.5, prior = 0.5 } (the shares do not count)'
            )
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both or none")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca needs certificate and key")
        return self


class SiteSettings(_Section):
    """Everything a client needs to know about its own platform.

    `population` names the shoppers that the ledger belongs to, `population_size` is the *declared*, public,
    rounded number of them: it scales updates and weights the platform in the average, and no count of the data
    ever replaces it.
    """

    name: Name
    federation: Name | None = None
    """The federation that a deployed platform is, or wants to be, a member of."""
    events: Path | None = None
    """Interactions: a file or folder; left out where `sources` say where they are."""
    items: Path | None = None
    """The catalogue: a file or folder; left out where `catalogue` says where it is."""
    columns: dict[str, str] = {}
    images: Images = {}
    """Files of image vectors, by the name of the model that made them (`clients.data.images`)."""
    sources: dict[Name, EventSource] = {}
    """Where events are, by name; `fedcart client ingest` reads them into the store, and training reads the store."""
    catalogue: ItemSource | None = None
    """Where the items are, for ingest."""
    store: Path = Path("store")
    """Folder of the event store."""
    feedback: str = "feedback.sqlite"
    """The feedback store: path of a SQLite file, or a database URL."""
    task: TaskSettings = TaskSettings()
    population: Name = ""
    """The ledger's scope; the platform's name where left out."""
    compute: ComputeSettings = ComputeSettings()
    population_size: Annotated[int, Field(ge=1)]
    epsilon_cap: Positive
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    ledger: str
    """Path of a SQLite file, or a database URL."""
    ledger_key: Path | None = None
    """The ledger's signing key; beside a SQLite file where left out, which a database has no place for."""
    work: Path
    """Folder for the outbox; one per run in simulations."""
    cache: Path
    """Folder for item features."""
    allow_plain_training: bool = False
    """Take part in runs without privacy (ε "none"): for research on public data only."""
    reproducible_noise: bool = False
    """Derive sampling and noise from the run's seed: repeatable, and therefore **not private**."""
    policy: PolicySettings = PolicySettings()
    node: NodeSettings = NodeSettings()
    metrics: MetricsSettings = MetricsSettings()
    serving: ServingSettings = ServingSettings()
    seed: int = 0
    """Decides ties and the order within baskets."""

    @model_validator(mode="after")
    def _name_the_population(self) -> Self:
        if not self.population:
            object.__setattr__(self, "population", self.name)
        return self

    @model_validator(mode="after")
    def _a_database_has_a_key(self) -> Self:
        # the URL is not repeated: it may hold a password
        if "://" in self.ledger and not self.ledger.startswith("sqlite") and self.ledger_key is None:
            raise ValueError(
                "the ledger is in a database, so ledger_key must name the file of its signing key, such as "
                '"keys/ledger.key"'
            )
        return self

    @model_validator(mode="after")
    def _one_place_for_each(self) -> Self:
        if (self.events is None) == (not self.sources):
            raise ValueError("give either events = FILE, or [sources.NAME] and then fedcart client ingest")
        if (self.items is None) == (self.catalogue is None):
            raise ValueError("give either items = FILE, or [catalogue]")
        if self.catalogue is not None and not self.sources:
            raise ValueError(
                "[catalogue] is read by fedcart client ingest, which needs [sources.NAME]; or set items"
            )
        if self.sources and self.task.research_k_core is not None:
            raise ValueError("task.research_k_core needs events = FILE: it looks at all shoppers at once")
        return self

    def located(self, folder: Path) -> "SiteSettings":
        """Return the settings with relative paths taken from `folder`."""
        names = ("events", "items", "work", "cache", "store", "ledger_key")
        keys = [k for k in names if getattr(self, k) is not None]
        paths = {key: folder / getattr(self, key) for key in keys}
        places = {k: _place(getattr(self, k), folder) for k in ("ledger", "feedback")}
        sources = {
            name: source.model_copy(update={"where": _place(source.where, folder) or places["feedback"]})
            if isinstance(source, FeedbackSource)
            else source.located(folder)
            for name, source in self.sources.items()
        }
        images = {model: folder / file for model, file in self.images.items()}
        files = ("certificate", "key", "client_ca", "token", "out_of_stock")
        set_ = {k: folder / getattr(self.serving, k) for k in files if getattr(self.serving, k) is not None}
        serving = self.serving.model_copy(update=set_)
        catalogue = None if self.catalogue is None else self.catalogue.located(folder)
        changed = {"sources": sources, "catalogue": catalogue, "images": images, "serving": serving}
        return self.model_copy(update={**paths, **places, **changed})


def _place(where: str, folder: Path) -> str:
    """A database URL as it is, a path taken from `folder`, nothing for nothing."""
    return where if "://" in where or not where else str(folder / where)


def load_site(path: Path) -> SiteSettings:
    """Read a site file, its relative paths taken from its folder; raise SiteError naming file, key, value and fix."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SiteError(f"{path}: the site file cannot be read: {error}.") from None
    return read_site(text, str(path)).located(path.absolute().parent)


def read_site(text: str, where: str) -> SiteSettings:
    """Read the text of a site file, paths as they stand; raise SiteError that names `where`, key, value and fix."""
    try:
        return SiteSettings.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise SiteError(f"{where}: the site file cannot be read: {error}.") from None
    except ValidationError as error:
        raise SiteError(f"{where}: {explain(error, SiteSettings)}") from None


def save_site(path: Path, site: SiteSettings) -> None:
    """Write a site file that `load_site` reads back equal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tomli_w.dumps(site.model_dump(mode="json", exclude_none=True)), encoding="utf-8")


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return one sentence per problem of a validation error, with a suggestion for a misspelt key."""
    return " ".join(_explain_one(dict(problem), model) for problem in error.errors())


def _explain_one(problem: dict[str, Any], model: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, problem["loc"][:-1])
        close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(sorted(known))}."
        return f"{where}: there is no such key; {hint}"
    if problem["type"] == "missing":
        return f"{where}: is missing; add it."
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not where:
        return f"{message}."
    return f"{where} = {problem['input']!r}: {message}."


def _fields_at(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Return the names of the keys allowed at a location."""
    current, choices = model, list[type[BaseModel]]()
    for part in location:
        if part in current.model_fields:
            choices = _models_in(current.model_fields[part].annotation)
            current = choices[0] if len(choices) == 1 else current
        for choice in choices:  # of a union, the tag names one
            tag = choice.model_fields.get("type")
            if tag is not None and part in get_args(tag.annotation):
                current, choices = choice, []
                break
    return [field.alias or name for name, field in current.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models within an annotation, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
