"""What is audited: one platform's shoppers, and how the federation would release sums over them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.training import ShopperEvents
from privacy.release import ReleasePlan
from shared_model.stages import Stage
from shared_model.vocabulary import Vocabulary

Progress = Callable[[str], None]
"""Is told what was just done, in words."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A platform's part of a run, under audit.

    name : the platform's. events : its shoppers', as products of the vocabulary. plan : of the whole run. seed : of the
    public draws, such as which edges canaries own.
    """

    name: str
    events: ShopperEvents
    vocabulary: Vocabulary
    plan: ReleasePlan
    seed: int

    @property
    def shoppers(self) -> NDArray[np.int64]:
        """The different numbers of its shoppers who have an event, ascending."""
        return np.unique(self.events.users)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What the run releases: popularity, and edges where the plan has a share for them."""
        return tuple(Stage)[: len(self.plan.shares)]
