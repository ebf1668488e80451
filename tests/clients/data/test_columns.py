import pytest
from pydantic import ValidationError

from clients.data import InteractionColumns, ItemColumns, split_columns
from clients.errors import DataError


def test_one_flat_table_serves_both_files() -> None:
    events, items = split_columns({"user": "u", "item": "i", "order": "t", "title": "name", "basket": "b"})
    assert events == InteractionColumns(user="u", item="i", order="t", basket="b")
    assert items == ItemColumns(item="i", title="name")


def test_the_items_file_may_call_its_id_differently() -> None:
    events, items = split_columns({"item": "product", "catalogue_item": "sku"})
    assert (events.item, items.item) == ("product", "sku")


def test_nothing_given_means_the_canonical_names() -> None:
    assert split_columns(None) == (InteractionColumns(), ItemColumns())


def test_an_unknown_key_is_refused_with_the_closest_one() -> None:
    with pytest.raises(
        DataError, match=r"platform\.toys\.columns: unknown key 'titel': did you mean 'title'\?"
    ):
        split_columns({"titel": "name"}, "platform.toys.columns")


@pytest.mark.parametrize("model", [InteractionColumns, ItemColumns])
def test_the_models_refuse_unknown_keys_themselves(model: type[InteractionColumns | ItemColumns]) -> None:
    with pytest.raises(ValidationError, match="did you mean 'item'"):
        model.model_validate({"itme": "x"})


@pytest.mark.parametrize(
    ("flat", "where"),
    [
        ({"user": 3}, "columns.user"),
        ({"title": ""}, "columns.title"),
        ({"order_unit": "hours"}, "order_unit"),
    ],
)
def test_a_value_that_is_no_name_is_refused(flat: dict[str, object], where: str) -> None:
    with pytest.raises(DataError, match=where):
        split_columns(flat)


def test_mappings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        InteractionColumns().user = "other"  # type: ignore[misc]
