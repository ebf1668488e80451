"""The operator's side of the vocabulary: from members' catalogues to signed versions."""
