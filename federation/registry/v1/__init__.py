"""Version 1 of the service's interface: `registry.proto`, and what `make proto` generates from it."""
