"""From a platform's folder to a snapshot: data, adopted model, local layer, index. What is costly is kept."""

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from clients.data import Catalogue
from clients.errors import SiteError
from clients.evaluation import choose_blend, choose_local
from clients.folder import ClientFolder
from clients.models import AdoptedModel, InstalledModels, load_adopted
from clients.platform import HashableSite, Platform, prepare_platform
from clients.recommender import LocalLayer
from clients.serving.candidates import GATHERED, POPULAR
from clients.serving.choices import cache_file, clear_choices, keep_choice, kept_choice
from clients.serving.erased import erased_shoppers
from clients.serving.history import Shoppers, whole
from clients.serving.index import NearIndex, build_index, load_index, save_index
from clients.serving.scoring import Scoring
from clients.serving.shelf import Shelf
from clients.serving.snapshot import Arm, Snapshot
from clients.serving.sweep import half_copy
from clients.site import SiteSettings
from shared_model.encoders import Encode
from shared_model.exchange import SharedTensors
from shared_model.features import make_encoders
from shared_model.model import initial_shared
from shared_model.version import VERSION

PRIOR = "prior"


@dataclass(frozen=True, eq=False)
class Model:
    """What is served: the adopted version, or the prior before the first."""

    version: str
    number: int
    encoder_names: tuple[str, ...]
    width: int
    history_length: int
    shared: SharedTensors | None


def current_model(folder: ClientFolder) -> Model:
    """Return the adopted model, or the untrained one of the federation's card; raise SiteError before the first kit."""
    if InstalledModels(folder).record().current is not None:
        adopted: AdoptedModel = load_adopted(folder.path)
        terms = adopted.card.model
        return Model(
            adopted.version,
            adopted.card.number,
            adopted.encoder_names,
            terms.width,
            terms.history_length,
            adopted.shared,
        )
    terms = folder.membership().kit.card.model
    return Model(PRIOR, 0, terms.encoder_names, terms.width, terms.history_length, None)


def load_snapshot(folder: ClientFolder) -> Snapshot:
    """Read everything again. Raises SiteError, DataError, EncoderError, FolderError, and ServingError without faiss."""
    site, model = folder.site(), current_model(folder)
    # Not the cached function: a service that sees many catalogues must not keep them all.
    data = HashableSite(site)
    prepare = prepare_platform.__wrapped__
    platform = prepare(data, model.encoder_names, model.width, model.history_length).require_shoppers()
    place = folder.path / "serving"
    locals_ = _local_layers(platform, model, place)
    if HashableSite(site) != data:
        clear_choices(place)  # they were made on data that changed meanwhile: a shopper may have been erased
    snapshot = make_snapshot(platform, model, locals_, site, place)
    return snapshot.without(erased_shoppers(site, snapshot.shoppers.sequences.user_ids))


def make_snapshot(
    platform: Platform, model: Model, local: dict[str, LocalLayer], site: SiteSettings, place: Path
) -> Snapshot:
    """Build a snapshot from a platform whose local layers are chosen."""
    everything = replace(platform, split=whole(platform.split.sequences))
    shared = model.shared or initial_shared(platform.spec)
    popularity = everything.popularity("test").cpu()
    near = everything.transitions("test") if any(layer.transitions > 0 for layer in local.values()) else None
    settings = site.serving
    arms = {}
    large = len(platform.catalogue) > settings.exact_items and find_spec("faiss") is not None
    indexed = settings.index == "approximate" or (large and settings.index == "auto")
    table = platform.table.cpu()
    half = half_copy(table) if not indexed and len(table) > GATHERED else None
    for name, layer in _asked(local, site).items():
        scoring = Scoring.of(
            platform.spec,
            table,
            platform.norms.cpu(),
            platform.isolation.cpu(),
            shared,
            layer,
            popularity,
            near,
            half,
        )
        arms[name] = Arm(scoring, _index(scoring, platform, place) if indexed else None)
    together = settings.compare == "interleaved" and len(arms) == 2  # one, before the first model
    return Snapshot(
        platform=site.name,
        version=model.version,
        number=model.number,
        shelf=Shelf.of(platform.catalogue, _out_of_stock(settings.out_of_stock)),
        shoppers=Shoppers.of(platform.split.sequences),
        arms=arms,
        shares={next(iter(arms)): 1.0} if together else _shares(list(arms), site),
        encode=_typed(model.encoder_names, platform.catalogue),
        leave_out_seen=platform.filter_seen,
        one_basket=site.task.hold_out == "basket",
        interleaved=together,
    )


def _typed(names: tuple[str, ...], catalogue: Catalogue) -> Encode:
    """Return what encodes typed text. It is fitted to the catalogue when first used: seconds, for a large one."""

    @cache
    def fitted() -> list[Encode]:
        texts = catalogue.texts()
        return [encoder.fitted(texts) for encoder in make_encoders(names)]

    return lambda asked: np.concatenate([encode(asked) for encode in fitted()], axis=1)


def _local_layers(platform: Platform, model: Model, place: Path) -> dict[str, LocalLayer]:
    """Choose the weights of each arm on validation shoppers, or read what was chosen for this model and data."""
    basis = f"{VERSION} {model.encoder_names} {platform.spec} {platform.fingerprint} {platform.catalogue.fingerprint}"
    floor = kept_choice(place, f"floor {basis}")
    if floor is None:
        floor = choose_local(platform)
        keep_choice(place, f"floor {basis}", floor)
    if model.shared is None:
        return {"prior": floor}
    key = f"{model.version} {basis}"
    chosen = kept_choice(place, key)
    if chosen is None:
        chosen = choose_blend(platform, model.shared, floor)
        keep_choice(place, key, chosen)
    return {"model": chosen, "prior": floor}


def _asked(local: dict[str, LocalLayer], site: SiteSettings) -> dict[str, LocalLayer]:
    """Return the arms that some shoppers belong to; all there are where the asked ones are not there (yet)."""
    wanted = {str(name) for name, share in site.serving.arms.items() if share > 0}
    return {name: layer for name, layer in local.items() if name in wanted} or local


def _shares(arms: list[str], site: SiteSettings) -> dict[str, float]:
    """Return the share of each arm that is there; they add up to 1."""
    asked = {str(name): share for name, share in site.serving.arms.items() if name in arms}
    total = sum(asked.values())
    return {name: share / total for name, share in asked.items()} if total > 0 else {arms[0]: 1.0}


def _index(scoring: Scoring, platform: Platform, place: Path) -> NearIndex:
    """Return the index of one arm, from the cache where it was built for the same vectors."""
    part = scoring.parts[-1]
    popular = np.argsort(-scoring.bias.numpy(), kind="stable")[:POPULAR].astype(np.int64)
    digest = hashlib.sha256(np.ascontiguousarray(part.scales.numpy()).tobytes()).hexdigest()
    path = cache_file(place, f"{platform.catalogue.fingerprint} {platform.spec} {digest}", "faiss")
    index = load_index(path, *scoring.features.shape)
    if index is None:
        index = build_index((scoring.features.float() * part.scales[:, None]).numpy())
        save_index(index, path)
    return NearIndex(index, popular)


def _out_of_stock(path: Path | None) -> list[str]:
    """Return the ids in a text file, one a line."""
    if path is None:
        return []
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SiteError(f"{path}: [serving] out_of_stock cannot be read: {error}.") from None
