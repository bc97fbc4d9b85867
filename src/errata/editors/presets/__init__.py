"""Hyperparameters that were published, or measured, for a method on a model; each with its source."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.yamls import read_yaml

RELEASED = "released"
_NOT_MODELS = {"guess", "sources", "base"}


def preset(editor: str, model: EditableModel, variant: str | None = None) -> dict[str, Any]:
    """Options of a method for a model; {} for a method without presets.

    Where nothing was published for the model they are guessed from its depth, see `sources`.
    variant: "released" for what the papers on collapse ran, where that departs from the method.
    """
    return {option: value for option, (value, _) in _values(editor, model, variant).items()}


def sources(editor: str, model: EditableModel, variant: str | None = None) -> dict[str, str]:
    """Where each value of `preset` comes from."""
    return {option: source for option, (_, source) in _values(editor, model, variant).items()}


def published(editor: str) -> tuple[str, ...]:
    """The models that a method has presets for."""
    return tuple(name for name in _table(editor) if name not in _NOT_MODELS)


def _values(editor: str, model: EditableModel, variant: str | None) -> dict[str, tuple[Any, str]]:
    if variant not in (None, RELEASED):
        raise BadInput(f"presets have no variant {variant!r}; there is {RELEASED}.")
    table = _table(editor)
    if not table:
        return {}
    entry = next((table[name] for name in published(editor) if _matches(table[name]["match"], model)), table["guess"])
    chosen = {**entry["values"], **(entry.get(RELEASED, {}) if variant else {})}
    return {option: (_resolved(value, model), table["sources"][key]) for option, (value, key) in chosen.items()}


@cache
def _table(editor: str) -> Mapping[str, Any]:
    file = files(__package__) / f"{editor}.yaml"
    if not file.is_file():
        return {}
    table: Mapping[str, Any] = read_yaml(file.read_text("utf-8"))
    return _table(table["base"]) if "base" in table else table


def _matches(wanted: Mapping[str, Any], model: EditableModel) -> bool:
    return all(getattr(model.model.config, key, None) == value for key, value in wanted.items())


def _resolved(value: Any, model: EditableModel) -> Any:
    """A value as it is, or one that scales: with the model's depth, or with the inputs of the edited matrix."""
    match value:
        case {"depth": share}:
            return round(share * (model.n_layers - 1))
        case {"depths": [low, high]}:
            last = model.n_layers - 1
            return list(range(round(low * last), round(high * last) + 1))
        case {"last": count}:
            return list(range(max(0, model.n_layers - count), model.n_layers))
        case {"per_input": share}:
            return share * model.weight(model.site(0)).shape[1]
        case [*values]:
            return [_resolved(each, model) for each in values]
    return value
