"""Proof that a row of the architecture table is right: `errata doctor FAMILY` or `errata doctor MODEL`."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from errata.errors import ErrataError
from errata.model import hooks
from errata.model.architecture import ARCHITECTURES
from errata.model.editable import EditableModel
from errata.model.loading import load
from errata.model.tiny import tiny_model
from errata.model.tokens import TokenBatch, encode, encode_target, pad, subject_index
from errata.update.delta import LowRank, WeightDelta
