"""Published models: their signed cards, the signed list of versions, and the messages of the service that serves them."""
