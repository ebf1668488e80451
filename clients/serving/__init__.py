"""Recommendations of one platform, from the shell and over gRPC.

ClientFolder ── load ──► Snapshot (immutable: catalogue, shoppers, scoring) ──► Engine (no grpc) ──► service, cli
                             ▲                                                     ▲
                           watch: a new model, catalogue or stock              Sessions: what happened since
"""
