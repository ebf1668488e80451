"""The federation's server: strategy, validation of replies, checkpoints. It never sees an event of a shopper."""
