"""The version of this code, as it is written into ledgers and model cards."""

VERSION = "0.1.0"
