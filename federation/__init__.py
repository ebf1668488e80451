"""What platforms and their operator must agree on beside training: keys, requests, kits, certificates, bundles.

Nothing here knows a shopper. `clients` and `server` both build on it and never on each other.
"""
