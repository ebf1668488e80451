"""Requests: whom they bind, when they end, and what their sender must hold."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from federation.errors import ExpiredError, TamperedError, WrongPartyError
from federation.keys import node_text, signing_text
from federation.request import make_request, read_request
from federation.signed import sign
from shared_model.errors import BadInputError


def test_a_request_says_what_was_declared(made):
    request = read_request(made.request, "file", "groceries", made.time).request
    assert (request.kind, request.platform, request.population_size) == ("join", "books", 2000)
    assert request.identity_key == signing_text(made.identity)
    assert request.node_key == node_text(made.node)
    assert request.replaces is None
    assert request.head == made.declaration.head
    assert (request.head.population, request.head.seq) == ("books", 0)


def test_no_private_key_is_in_a_request(made):
    for key in ("identity", "node", "ledger.key"):
        body = b"".join((made.folder / key).read_bytes().splitlines()[1:-1])
        assert len(body) > 60
        for data in (made.request, made.kit):
            assert not any(body[i : i + 20] in data for i in range(0, len(body) - 20, 20))


def test_two_requests_are_never_the_same(made):
    assert make_request(made.declaration, made.keys, made.time) != made.request


@pytest.mark.parametrize("days", [0, 6.9, 7])
def test_it_is_good_for_a_week(made, days):
    read_request(made.request, "file", "groceries", made.time + timedelta(days=days))


@pytest.mark.parametrize(
    ("later", "said"),
    [
        (timedelta(days=7, seconds=1), "expired on 2026-03-08T12:00:00Z"),
        (timedelta(days=400), "expired on"),
        (-timedelta(minutes=6), "one of the clocks is wrong"),
        (-timedelta(days=400), "one of the clocks is wrong"),
    ],
)
def test_outside_its_time_it_is_refused(made, later, said):
    with pytest.raises(ExpiredError, match=said):
        read_request(made.request, "file", "groceries", made.time + later)


def test_it_is_for_one_federation(made):
    with pytest.raises(WrongPartyError, match="is for federation 'groceries', and this is 'toys'"):
        read_request(made.request, "file", "toys", made.time)


def resigned(data, key, **change):
    body = json.loads(data)["body"] | change
    return sign("fedcart-request/1", body, key)


def test_someone_else_s_node_key_cannot_be_claimed(made):
    """The sender signs everything, but does not have the node key that the request names."""
    stolen = resigned(made.request, made.identity, node_key=node_text(made.new_node))
    with pytest.raises(TamperedError, match="does not have the node key"):
        read_request(stolen, "file", "groceries", made.time)


def test_someone_else_s_ledger_cannot_be_claimed(made):
    """Heads are on every card: one is no proof of having the key."""
    data = make_request(made.declaration, replace(made.keys, ledger=made.new_identity), made.time)
    with pytest.raises(TamperedError, match="does not have the key of the ledger"):
        read_request(data, "file", "groceries", made.time)


def test_a_head_that_its_key_did_not_sign_is_refused(made):
    head = replace(made.declaration.head, seq=9)
    with pytest.raises(BadInputError, match="its signature is not from its key"):
        make_request(replace(made.declaration, head=head), made.keys, made.time)
    with pytest.raises(TamperedError, match="no request that fedcart wrote"):
        read_request(
            resigned(made.request, made.identity, ledger=head.to_text()), "file", "groceries", made.time
        )


@pytest.mark.parametrize("change", [{"nonce": "0" * 32}, {"platform": "other"}, {"population_size": 5}])
def test_a_proof_is_of_one_request(made, change):
    with pytest.raises(TamperedError, match="does not have the node key"):
        read_request(resigned(made.request, made.identity, **change), "file", "groceries", made.time)


def test_a_rotation_needs_the_old_key(made):
    request = read_request(made.rotation, "file", "groceries", made.time).request
    assert (request.kind, request.replaces) == ("rotate", signing_text(made.identity))
    proof = json.loads(made.rotation)["body"]["replaces_proof"]
    for wrong in ("0" * 128, proof[:-1] + ("0" if proof[-1] != "0" else "1")):
        with pytest.raises(TamperedError, match="does not have the key that it wants to replace"):
            read_request(
                resigned(made.rotation, made.new_identity, replaces_proof=wrong),
                "file",
                "groceries",
                made.time,
            )


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "rotate"},
        {"kind": "leave"},
        {"more": 1},
        {"population_size": 0},
        {"population_size": "2000"},
        {"population_size": True},
        {"platform": "../books"},
        {"contact": "a\x1b[2Jb"},
        {"contact": "x" * 201},
        {"ledger": ""},
        {"ledger": "{}"},
        {"ledger": None},
        {"ledger_proof": None},
        {"node_key": "ssh-ed25519 AAAA"},
        {"node_key": "ecdsa-sha2-nistp384 AAAA"},
        {"identity_key": "AB" * 32},
        {"issued": "2026-02-30T12:00:00Z"},
        {"issued": "yesterday"},
    ],
)
def test_a_body_that_fedcart_would_not_write_is_refused(made, change):
    with pytest.raises((TamperedError, ExpiredError)):
        read_request(resigned(made.request, made.identity, **change), "file", "groceries", made.time)


def test_a_key_with_a_comment_is_not_the_key(made):
    """Two texts of one key would be two keys to a registry."""
    with pytest.raises(TamperedError):
        read_request(
            resigned(made.request, made.identity, node_key=node_text(made.node) + " laptop"),
            "file",
            "groceries",
            made.time,
        )


def test_only_what_can_be_read_back_is_written(made):
    with pytest.raises(BadInputError, match="platform"):
        make_request(replace(made.declaration, platform="a b"), made.keys, made.time)
