"""What tests of Errata and of private methods need: the check of a method, and small random models of every family."""

from errata.conformance import check_editor
from errata.model.tiny import tiny_model, tiny_tokenizer

__all__ = ["check_editor", "tiny_model", "tiny_tokenizer"]
