"""The default scenario: four grocery platforms train together, a fifth receives the model."""

from pathlib import Path

from clients.site import TaskSettings
from simulations.grocery import write_grocery_platforms
from simulations.scenario import PlatformSection, Scenario, ScenarioSection

MEMBERS = ("harbor", "meadow", "summit", "valley")
NEWCOMER = "newtown"
_COLUMNS = {
    "user": "user_id",
    "item": "item_id",
    "order": "timestamp",
    "basket": "basket",
    "code": "product_code",
    "title": "title",
    "category": "category",
    "brand": "brand",
}


def grocery_scenario(folder: Path) -> Scenario:
    """Return the default scenario, its data written to `folder` on first use.

    The task is to find a product that the household buys for the *first* time, given its earlier first
    purchases and the other new products of the same basket in an order that says nothing; what it had before is
    filtered out. On repeat purchases a list of past ones would win, and no recommender would show.

    A price is left out of the features: it is read off receipts here, so that it exists says somebody bought.
    Every platform has 493 or 494 households; 500 is the declared, public size.
    """
    files = write_grocery_platforms(folder, [*MEMBERS, NEWCOMER], seed=0)
    return Scenario(
        scenario=ScenarioSection(name="grocery"),
        task=TaskSettings(first_purchases=True, hold_out="event"),
        platform=[
            PlatformSection(
                name=file.name,
                role="newcomer" if file.name == NEWCOMER else "member",
                events=file.events,
                items=file.items,
                columns=_COLUMNS,
                population_size=500,
            )
            for file in files
        ],
    )
