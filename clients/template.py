"""The first `client.toml` of a platform: written once, explained line by line, then the platform's own."""

import json
from dataclasses import dataclass
from pathlib import Path

LEDGER_KEY = "keys/ledger.key"
"""The signing key of a ledger that is made in a database."""


@dataclass(frozen=True)
class SiteAnswers:
    """What `fedcart client init` asks."""

    name: str
    federation: str
    events: Path
    items: Path
    population_size: int
    epsilon_cap: float
    delta: float
    ledger: str | None = None
    """Path or database URL of the ledger that the population has already; a URL without `ledger_key` is a database in
    which a new one is made."""
    ledger_key: str | None = None
    """File of that ledger's signing key; beside a SQLite file where left out."""
    population: str | None = None
    """The name under which that ledger knows the population."""

    @property
    def founds_in_database(self) -> bool:
        """Whether a new ledger is to be made in a database."""
        return self.ledger is not None and "://" in self.ledger and self.ledger_key is None


def site_text(answers: SiteAnswers) -> str:
    """Return the text of `client.toml`; what is left at its default stands there as a comment."""
    ledger = answers.ledger or "ledger.sqlite"
    given = LEDGER_KEY if answers.founds_in_database else answers.ledger_key
    key = f"ledger_key = {_toml(given)}" if given else f'# ledger_key = "{LEDGER_KEY}"'
    population = f"population = {_toml(answers.population)}" if answers.population else "# population ="
    return f"""\
# This platform's own settings. fedcart reads this file and never writes it again.
# Relative paths are taken from this folder.

name = {_toml(answers.name)}
federation = {_toml(answers.federation)}

# The data: CSV or Parquet, files or folders of them. Databases and other sources: docs/data.md.
events = {_toml(str(answers.events))}
items = {_toml(str(answers.items))}

# Whose privacy is accounted for. The size is declared, public and rounded; it is never counted.
{population}  # name of the ledger's scope; this platform's name where left out
population_size = {answers.population_size}
epsilon_cap = {answers.epsilon_cap!r}  # the most that may ever be released about a shopper
delta = {answers.delta!r}  # below one over the number of shoppers; never changes
ledger = {_toml(ledger)}
{key}  # signs the ledger; beside its file where left out

work = "work"
cache = "cache"

# Which column is what, where the names differ:
# user, item, order, basket, event, value; title, brand, category, price, description, text, code
[columns]
# user = "customer"

# Vectors of item images, by the name of the model that made them: .npz or Parquet, by item id.
[images]
# clip-vit-b-32 = "clip.npz"

# What the federation may ask; whatever breaks it is refused, with a code that says nothing about the data.
[policy]
# bundles = []                   # SHA-256 of approved app bundles, beside those of: fedcart client approve
# exchange = []                  # fingerprints; where some are listed, the federation's card must be of one of them
# epsilon_per_run = 2.0          # the most that one run may ask for
# quiet_hours = ["08:00-20:00"]  # nothing is trained then
# timezone = "UTC"
# log = "codes"                  # or "messages", which may quote a value from the data

# The most that a run may ask for.
[policy.limits]
# rounds = 1000
# local_steps = 1000      # in one round
# gradients = 20000000    # in one round: local_steps × sample rate × population_size
# seconds = 3600.0        # of training in one round, which then sends what it began with
# clip_norm = 10.0
# learning_rate = 1.0
# proximal = 10.0
# negatives = 10000
# targets = 100

# How this machine computes; it decides speed, never what is private.
[compute]
# device = "auto"       # the fastest that is there, or "cuda", "mps", "cpu"; with "cpu" no GPU is even visible
# scoring = "float32"   # or "bfloat16"
# compile = "auto"      # compile gradients in long runs, which needs a C++ compiler; or "always", "never"

# Ports on this machine, for this platform's own processes only.
[node]
# port = 9094
# health_port = 9095

# Where Prometheus finds this platform's metrics, ε among them; nowhere where left out.
[metrics]
# address = "127.0.0.1:9465"

# Who is served: fedcart client serve (docs/serving.md).
[serving]
# port = 9500
# token = "keys/serving.token"  # every caller shows it; for its owner only

# What a recommendation is here.
[task]
# first_purchases = false  # keep only the first event of each item of a shopper
# hold_out = "basket"      # or "event"
# filter_seen = true       # leave out of every list what the shopper had
# min_events = 3           # shoppers with fewer events are left out
"""


def _toml(text: str) -> str:
    """A TOML basic string: JSON's, which is the same but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
