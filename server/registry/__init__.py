"""Published models: cards made from finished runs, the store of versions, and the gRPC service that serves them."""
