"""Who was erased (`fedcart client erase`): unknown to serving at once, before the data is read again."""

from collections.abc import Sequence

from clients.data.store import open_store
from clients.site import SiteSettings


def erased_shoppers(site: SiteSettings, shoppers: Sequence[str]) -> frozenset[str]:
    """Return those of some shoppers whom the platform's event store remembers as erased; raise StoreError."""
    if not (site.store / "manifest.json").exists():
        return frozenset()
    store = open_store(site.store)
    erased = store.manifest().erased
    if not erased:
        return frozenset()
    digests = store.digests(list(shoppers))
    return frozenset(name for name, digest in zip(shoppers, digests, strict=True) if digest.hex() in erased)
