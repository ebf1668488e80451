"""Rows that are there more than once, against pandas; text and categories give the same."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.data.distinct import codes_of, repeated

IDS = st.sampled_from(["anna", "ben", "7", None])
ROWS = st.lists(st.tuples(IDS, IDS, st.sampled_from([1.0, 2.0, np.nan])), max_size=30)


@given(rows=ROWS, keep=st.sampled_from(["first", "last"]), categories=st.booleans())
def test_equals_pandas_on_all_and_on_some_columns(rows, keep, categories):
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "order"]).astype(
        {"user_id": "str", "item_id": "str", "order": float}
    )
    asked = frame.astype({"user_id": "category", "item_id": "category"}) if categories else frame
    assert repeated(asked, keep=keep).tolist() == frame.duplicated(keep=keep).tolist()
    some = ["user_id", "item_id"]
    assert repeated(asked, some, keep=keep).tolist() == frame.duplicated(some, keep=keep).tolist()


@pytest.mark.parametrize("kind", ["str", "category"])
def test_codes_say_which_id_and_that_there_is_none(kind):
    codes, names = codes_of(pd.Series(["b", "a", None, "b"], dtype="str").astype(kind))
    assert [None if code < 0 else names[code] for code in codes] == ["b", "a", None, "b"]
    assert codes.dtype == np.int64
