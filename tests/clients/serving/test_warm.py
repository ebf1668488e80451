"""What some questions need is made before a snapshot is served, and outlives those who are erased from it."""

from clients.serving import shelf
from clients.serving.explain import profile
from clients.serving.steady import warm


def test_how_rare_words_are_is_counted_once_for_a_catalogue(make, monkeypatch):
    counted, count = [], shelf.document_frequencies
    monkeypatch.setattr(shelf, "document_frequencies", lambda texts: counted.append(1) or count(texts))
    snapshot = make().snapshot
    warm(snapshot)
    first, other = snapshot.shoppers.sequences.user_ids[:2]
    before = profile(snapshot, first)
    later = snapshot.without(frozenset({other}))
    assert profile(later, first) == before
    assert counted == [1]
