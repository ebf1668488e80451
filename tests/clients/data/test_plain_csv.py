"""Files that numpy and arrow read give what pandas gives, and every file that might not is left to pandas."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.data import plain_csv
from clients.data.plain_csv import is_plain
from clients.data.read import file_chunks, read_interactions
from clients.errors import DataError

HEADER = ["user_id", "item_id", "timestamp"]
NAMES = dict(zip(HEADER, HEADER, strict=True))


def write(folder: Path, content: bytes, name: str = "events.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def read(path: Path, rows: int | None) -> list[pd.DataFrame] | str:
    """Return the chunks of a file, or what is wrong with it."""
    try:
        return list(file_chunks(path, lambda present, where: NAMES, rows))
    except DataError as error:
        return str(error)


cells = st.text(st.sampled_from('aé7 .-0x\u3000\t"\r#\\;'), max_size=5) | st.sampled_from(
    ["x" * 40, "y" * 90]
)
lines = st.lists(st.lists(cells, min_size=3, max_size=3) | st.lists(cells, max_size=5), max_size=12)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=lines,
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    mark=st.sampled_from(["", "\ufeff"]),
    header=st.sampled_from(
        ["user_id,item_id,timestamp", '"user_id","item_id",timestamp', "user_id,item_id,timestamp,x"]
    ),
    rows=st.sampled_from([None, 1, 2, 5, 100]),
    block=st.sampled_from([64, 1 << 22]),
)
def test_a_plain_file_is_read_as_pandas_reads_it(
    tmp_path, monkeypatch, lines, end, last, mark, header, rows, block
):
    """Values, chunks, and what is wrong; whatever the size of the blocks."""
    text = mark + end.join([header, *(",".join(line) for line in lines)]) + (end if last else "")
    path = write(tmp_path, text.encode())
    with monkeypatch.context() as patched:
        patched.setattr(plain_csv, "_BLOCK", block)
        quick = read(path, rows)
    with monkeypatch.context() as patched:
        patched.setattr("clients.data.read.is_plain", lambda *_: False)
        slow = read(path, rows)
    if isinstance(slow, str) or isinstance(quick, str):
        assert quick == slow
        return
    assert [len(frame) for frame in quick if len(frame)] == [len(frame) for frame in slow if len(frame)]
    pd.testing.assert_frame_equal(pd.concat(quick, ignore_index=True), pd.concat(slow, ignore_index=True))


@pytest.mark.parametrize(
    ("rest", "plain"),
    [
        (b"a,b,1\nc,d,2\n", True),
        (b"a,b,1\r\nc,,2", True),
        (b"", False),
        (b'a,"b",1\n', False),
        (b"a,b\n", False),
        (b"a,b,1,\n", False),
        (b"a,b,1,2\nc,2\n", False),
        (b"a,b,1\n\nc,d,2\n", False),
        (b"a,b\r,1\n", False),
        (b"a,b\0,1\n", False),
    ],
)
def test_what_is_plain(tmp_path, rest, plain):
    assert is_plain(write(tmp_path, b"user_id,item_id,timestamp\n" + rest), ",", HEADER) is plain


def test_a_header_of_two_lines_or_of_a_name_twice_is_not(tmp_path):
    path = write(tmp_path, b'"user_id",item_id,"time\nstamp"\na,b,1\n')
    assert not is_plain(path, ",", ["user_id", "item_id", "time\nstamp"])
    assert not is_plain(write(tmp_path, b"a,a\n1,2\n"), ",", ["a", "a"])
    assert not is_plain(write(tmp_path, b"\na,b\n1,2\n"), ",", ["a", "b"])
    assert not is_plain(write(tmp_path, b"a,b\n1,2\n", "x.csv.gz"), ",", ["a", "b"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    times=st.lists(
        st.integers(0, 10**16).map(str)
        | st.sampled_from(["0x1F", "-3", "+4", "1e3", " 5", "", "007", "1_0", "٣"]),
        min_size=1,
        max_size=6,
    )
)
def test_a_time_is_read_as_when_it_is_alone(tmp_path, times):
    """Columns of digits have a way of their own, which must not be another reading."""

    def seconds(some: list[str]) -> list[float]:
        rows = "".join(f"u,i,{time}\n" for time in some)
        path = write(tmp_path, ("user_id,item_id,timestamp\n" + rows).encode())
        return read_interactions(path).frame["order"].tolist()

    together, alone = seconds(times), [seconds([time, "x"])[0] for time in times]
    assert pd.Series(together).equals(pd.Series(alone))
