"""A sweep's file: what all runs have in common, and a grid of what differs. No torch here.

method, model, data, seed and every other key of a run may be an axis. A value that holds several keys together, such
as a method with its options, is a mapping; an axis that is no key of a run, such as `setup`, has only those.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from errata.errors import BadInput
from errata.registry import check_method
from errata.runs.config import RunConfig, load_configs, parse_config, read_mapping

Point = dict[str, Any]
"""Keys of a run that go together."""


def load_sweep(path: Path) -> list[RunConfig]:
    """A config for each point of the grid, in its order: the last axis changes first. BadInput names what is wrong.

    A file without a grid is a run's, or one of several orders.
    """
    values = {} if path.is_dir() else read_mapping(path)
    if "grid" not in values:
        return _checked(load_configs(path), path)
    axes = _axes(values.pop("grid"), path)
    excluded = _exclusions(values.pop("exclude", []), path)
    for name in axes:
        if name in values:
            raise BadInput(f"{path}: {name!r} is an axis of the grid and stands beside it too; leave one of them out.")
    points = [{**values, **_joined(choice, path)} for choice in product(*axes.values())]
    for part in excluded:
        if not any(_fits(part, point) for point in points):
            raise BadInput(f"{path}: exclude {part} leaves nothing out: no run of the grid has all of these values.")
    kept = [point for point in points if not any(_fits(part, point) for part in excluded)]
    if not kept:
        raise BadInput(f"{path}: `exclude` leaves no run of the grid; take something out of it.")
    return _checked([parse_config(point, f"{path} ({_named(point, axes)})") for point in kept], path)


def _axes(grid: Any, path: Path) -> dict[str, list[Point]]:
    if not isinstance(grid, dict) or not grid:
        raise BadInput(f"{path}: grid is {grid!r}; give keys of a run with lists, such as method: [rome, memit].")
    return {str(name): _points(str(name), values, path) for name, values in grid.items()}


def _points(axis: str, values: Any, path: Path) -> list[Point]:
    if not isinstance(values, list) or not values:
        raise BadInput(f"{path}: the axis {axis!r} is {values!r}; give a list of its values.")
    points = [value if _is_point(axis, value) else {axis: value} for value in values]
    if axis not in RunConfig.model_fields and {axis} in map(set, points):
        raise BadInput(
            f"{path}: {axis!r} is no key of a run, so each of its values must hold some, such as "
            "{batch: 10, setting: single}; found " + repr(values)
        )
    return points


def _is_point(axis: str, value: Any) -> bool:
    """Whether a value of an axis is several keys; filters, options and the like are mappings themselves."""
    return isinstance(value, Mapping) and (axis in value or axis not in RunConfig.model_fields)


def _exclusions(found: Any, path: Path) -> list[Point]:
    if not isinstance(found, list) or not all(isinstance(part, dict) and part for part in found):
        raise BadInput(f"{path}: exclude is {found!r}; give a list such as [{{method: rome, batch: 10}}].")
    return found


def _joined(choice: Sequence[Point], path: Path) -> Point:
    together: Point = {}
    for part in choice:
        if twice := sorted(together.keys() & part.keys()):
            raise BadInput(f"{path}: two axes give {twice[0]!r}; leave it to one of them.")
        together |= part
    return together


def _fits(part: Point, point: Point) -> bool:
    return all(key in point and point[key] == value for key, value in part.items())


def _named(point: Point, axes: Mapping[str, Sequence[Point]]) -> str:
    """The keys that differ between runs, as a reader finds them in the file."""
    keys = {key: None for points in axes.values() for part in points for key in part}
    return ", ".join(f"{key}: {point[key]}" for key in keys if key in point)


def _checked(configs: list[RunConfig], path: Path) -> list[RunConfig]:
    """As they are. BadInput for a method, variant or option that does not exist, before hours are spent on others."""
    for config in configs:
        try:
            check_method(f"{config.method}:{config.preset}" if config.preset else config.method, config.options)
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from error
    return configs
