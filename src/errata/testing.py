"""What tests of Errata and of private methods need: small random models of every family."""

from errata.model.tiny import tiny_model, tiny_tokenizer

__all__ = ["tiny_model", "tiny_tokenizer"]
