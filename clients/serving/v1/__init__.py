"""The generated code of `serving.proto`: make proto."""
