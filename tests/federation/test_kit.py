"""Kits: signed by the federation, and nobody else; a card that people can compare."""

import json

import pytest

from federation.errors import TamperedError
from federation.keys import fingerprint, signing_text, spoken
from federation.kit import make_kit, read_kit
from federation.signed import sign
from shared_model.errors import BadInputError


def test_a_kit_holds_what_a_member_needs(made):
    kit = read_kit(made.kit, "file")
    assert kit.card == made.card
    assert (kit.platform, kit.number, kit.identity_key) == ("books", 1, signing_text(made.identity))
    assert (kit.card.model.spec.encoder_dimensions, kit.card.model.history_length) == ((16,), 6)


def test_a_kit_that_was_not_signed_with_the_key_on_its_card_is_refused(made):
    body = json.loads(made.kit)["body"]
    with pytest.raises(TamperedError, match="is not signed by the signing key on its card"):
        read_kit(sign("fedcart-kit/1", body, made.identity), "file")


def test_the_card_shows_the_fingerprint_to_read_out(made):
    lines = "\n".join(made.card.lines())
    assert spoken(fingerprint(signing_text(made.federation))) in lines
    assert "fed.example.org:9443" in lines
    assert str(made.card.model.identities[0]) in lines


def test_a_card_s_words_steer_no_terminal(made):
    """The lines are also written to a file, which people read."""
    odd = made.card.model_copy(update={"fedcart": "1\x1b[2J\u202e", "flower": "[red]\x9b31m"})
    lines = odd.lines()
    assert all(line.isprintable() for line in lines)
    assert "[red]" in lines[-1]


def test_a_card_is_signed_with_the_key_that_it_names(made):
    with pytest.raises(BadInputError, match="names another signing key"):
        make_kit(made.card, made.recipient, 1, made.identity, made.time)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"address": "fed.example.org"}, "card"),
        ({"address": "https://fed.example.org:1"}, "card"),
        ({"certificates": ""}, "card"),
        ({"certificates": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, "card"),
        ({"model": {"encoders": "a", "encoder_identities": "[1]", "history_length": 2}}, "card"),
        (
            {"model": {"encoders": "a", "encoder_identities": "nonsense", "history_length": 2}},
            "card",
        ),
    ],
)
def test_a_kit_that_fedcart_would_not_write_is_refused_though_it_is_signed(made, change, said):
    body = json.loads(made.kit)["body"]
    body["card"] |= change
    with pytest.raises(TamperedError, match=said):
        read_kit(sign("fedcart-kit/1", body, made.federation), "file")
