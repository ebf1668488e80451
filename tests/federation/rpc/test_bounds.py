"""Every field has a bound: the default, or one by name; what is above it is named, what is unknown is dropped."""

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass

from clients.serving.bounds import BOUNDS, SERVICE
from clients.serving.v1 import serving_pb2 as m
from federation.rpc.bounds import Bound, Bounds, Unreadable, fields_of
from server.registry.bounds import BOUNDS as REGISTRY
from server.registry.bounds import SERVICE as MODELS


def made(**fields: dict):
    """A service of one method, and its request, with these fields as `FieldDescriptorProto` takes them."""
    file = descriptor_pb2.FileDescriptorProto(name="made.proto", package="made", syntax="proto3")
    request = file.message_type.add(name="Ask")
    for number, (name, field) in enumerate(fields.items(), 1):
        request.field.add(name=name, number=number, **field)
    entry = request.nested_type.add(name="MapEntry", options={"map_entry": True})
    for number, name in enumerate(("key", "value"), 1):
        entry.field.add(name=name, number=number, type=9, label=1)
    file.service.add(name="Made").method.add(name="Do", input_type=".made.Ask", output_type=".made.Ask")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool.FindServiceByName("made.Made"), GetMessageClass(pool.FindMessageTypeByName("made.Ask"))


def test_a_field_that_nobody_thought_of_has_the_default_bound():
    service, ask = made(
        word={"type": 9, "label": 1}, words={"type": 9, "label": 3}, raw={"type": 12, "label": 1}
    )
    bounds = Bounds(service, Bound(size=4, entries=2), {})
    assert bounds.problem(ask(word="xxxx", words=["a", "bbbb"], raw=b"1234")) is None
    assert bounds.problem(ask(word="xxxxx")) == "word: has 5 bytes, and at most 4 are taken. Send less."
    assert bounds.problem(ask(word="éé€")).startswith("word: has 7 bytes")
    assert bounds.problem(ask(raw=b"12345")).startswith("raw: has 5 bytes")
    assert bounds.problem(ask(words=["a", "bbbbb"])).startswith("words: has 5 bytes")
    assert bounds.problem(ask(words=["", "", ""])) == (
        "words: has 3 entries, and at most 2 are taken. Send fewer."
    )


def test_a_bound_by_name_counts_and_a_name_that_no_request_has_is_refused():
    service, ask = made(word={"type": 9, "label": 1}, other={"type": 9, "label": 1})
    bounds = Bounds(service, Bound(size=4), {"Ask.word": Bound(size=6), "other": Bound(size=1)})
    assert bounds.problem(ask(word="xxxxxx", other="x")) is None
    assert bounds.problem(ask(word="xxxxxxx")).startswith("word: has 7")
    assert bounds.problem(ask(other="xx")).startswith("other: has 2")
    with pytest.raises(ValueError, match=r"no request has Ask.wrod"):
        Bounds(service, Bound(), {"Ask.wrod": Bound()})


def test_a_map_is_refused():
    service, _ = made(pairs={"type": 11, "label": 3, "type_name": ".made.Ask.MapEntry"})
    with pytest.raises(ValueError, match="is a map"):
        Bounds(service, Bound(), {})


def test_no_field_of_the_services_holds_much():
    for service, bounds in ((SERVICE, BOUNDS), (MODELS, REGISTRY)):
        found = [bounds.of(field) for field in fields_of(service)]
        assert max(bound.size for bound in found) <= 4_000
        assert max(bound.entries for bound in found) <= 5_000


def test_the_place_in_a_list_and_below_a_message_is_named():
    good, long = m.Interaction(item_id="i"), m.Interaction(item_id="x" * 600)
    request = m.RecordFeedbackRequest(interactions=[good, good, long])
    assert BOUNDS.problem(request).startswith("interactions[2].item_id: has 600 bytes")
    opened = m.StreamRequest(open=m.RecommendRequest(who=m.Who(texts=["", "x" * 4_001])))
    assert BOUNDS.problem(opened).startswith("open.who.texts: has 4,001 bytes")


def test_what_is_no_message_says_so_and_unknown_fields_are_dropped():
    read = BOUNDS.reader(m.ProfileRequest.FromString)
    assert isinstance(read(b"\xff"), Unreadable)
    assert "at most 512" in read(m.ProfileRequest(shopper_id="x" * 513).SerializeToString()).why
    known = m.ProfileRequest(shopper_id="u")
    assert read(known.SerializeToString()) == known
    more = known.SerializeToString() + b"\xc2\x3e\x03abc"  # field 1000
    assert m.ProfileRequest.FromString(more).SerializeToString() == more, "protobuf alone keeps it"
    assert read(more).SerializeToString() == known.SerializeToString()
