"""How far an item stands from the rest of its own catalogue: a public number an item, from frozen features alone.

    isolation_i = 1 − mean of the K largest ⟨x̂_i, x̂_r⟩ over reference items r ≠ i,   within [0, 1]

x̂ are fused unit vectors (`shared_model.model`). In a space of many dimensions some items are near to everything (hubs:
Radovanović et al. 2010), and a ranking by cosines shows them too often; taking an item's mean similarity to its nearest
neighbours off corrects for it (CSLS: Conneau et al. 2018, eq. 3, here without the query's side, which moves no ranking).
Reference items are the own catalogue, or REFERENCES of it, evenly spaced in the catalogue's order, where it is larger.

| case                                        | isolation              |
|---------------------------------------------|------------------------|
| an item without any known text              | 0: it gains nothing    |
| an item that is there twice, or more often  | near 0                 |
| fewer than K other items                    | the mean over all      |
| no other item                               | 0                      |
"""

import torch

from shared_model.model import ModelSpec, scaled_items

NEIGHBOURS = 10
"""K."""
REFERENCES = 16_384
"""At most so many items of the catalogue are compared with."""
_CHUNK = 1024


@torch.no_grad()
def isolation(spec: ModelSpec, features: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """Return (I,) within [0, 1] for (I, F) features with (I, E) `block_norms`, as they are and where they are."""
    items = len(features)
    every = torch.arange(items, device=features.device)
    chosen = every if items <= REFERENCES else every[:: -(-items // REFERENCES)]
    found = features.new_zeros(items)
    kept = min(NEIGHBOURS, len(chosen) - 1)
    if kept < 1:
        return found
    references = scaled_items(spec, features[chosen], norms[chosen])
    for at in every.split(_CHUNK):
        vectors = scaled_items(spec, features[at], norms[at])
        cosines = vectors @ references.T
        cosines.masked_fill_(at.unsqueeze(1) == chosen, -torch.inf)
        alone = 1 - cosines.topk(kept, dim=1).values.mean(1).clamp(0, 1)
        found[at] = torch.where(vectors.any(1), alone, 0.0)
    return found
