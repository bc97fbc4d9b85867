"""What a run is asked to do: a YAML file, checked key by key. No torch here."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from errata.errors import BadInput
from errata.registry import check_filter, expand_tasks
from errata.runs.layout import RunDir
from errata.runs.schedule import Schedule
from errata.types import PREFIX_CACHE, Engine
from errata.yamls import read_yaml


class SecondMomentConfig(BaseModel):
    """Where second moments that are missing come from.

    corpus: "atlas" or a file of texts. tokens: how many to read; default: ten for each dimension, at least 50,000.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus: str
    tokens: int | None = Field(default=None, ge=1)


class ChatTemplate(BaseModel):
    """What goes through the model's chat template: "auto" if it has one, true, or false.

    edits: the prompts of requests. probes: those of probes, and the items of capability tasks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    edits: bool | Literal["auto"] = "auto"
    probes: bool | Literal["auto"] = "auto"

    def settled(self, present: bool) -> "ChatTemplate":
        """Without "auto". present: whether the model has a template."""
        return ChatTemplate(**{what: present if said == "auto" else said for what, said in self})


class LowerStatesConfig(BaseModel):
    """Hidden states below the first edited layer, kept from checkpoint to checkpoint.

    on: where. gib: how much, at most. "disk:8" says both.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: Literal["memory", "disk"]
    gib: float = Field(gt=0)


class RunConfig(BaseModel):
    """One run: edits of `data` written into `model` by `method`, measured after each of `edits` edits.

    model: name or folder. method: as in `errata list methods`, or a variant of it, such as rome:released; options:
    its hyperparameters, over its preset.
    filter: what clips its updates, a name of `errata list filters` or {name: ..., option: ...}.
    preset: "released" for what the papers on collapse ran, where that departs from the method.
    data: name or file of edits. edits: when to measure, a list or a `Schedule`; 0, the unedited model, is always
    measured. batch: edits written at once; a batch never crosses a checkpoint, so it may be smaller before one.
    setting: sequential, batches one after another on the same weights; single, each batch on the unedited weights,
    measured and undone: as many edits are made as `edits` says at most.
    chat_template: one of its values for edits and probes, or a `ChatTemplate`.
    seed: of everything random; 0 keeps the order of a file of edits, any other shuffles it.
    tasks: capability tasks or groups of them; limit: items of each, all if None. data_dir: where those of the
    package read their rows: a folder, "hub", or "atlas", the package's miniatures, the default of embedded models.
    device: cpu, cuda or cuda:1, auto for all GPUs together; a GPU if there is one by default.
    engine: what answers the tasks; vllm is an extra, and takes methods that write weights alone.
    prefix_cache: GiB of memory for keys and values of prompts' prefixes, kept from task to task.
    lower_states: where hidden states below the first edited layer may be kept from checkpoint to checkpoint, and how
    many GiB of them, as "memory:2" or "disk:8"; of the local engine. Neither changes a number.
    probe_limit: edits probed at a checkpoint.
    retention_limit: earlier edits of each kind asked again: the first ones, random ones, the last ones.
    stop_at_collapse: go no further than a checkpoint at which most neighbours have lost their answers.
    select: which edits of `data`: first, the first ones in its order, as the papers on collapse took them; seeded,
    shuffled by the seed; by default first with seed 0, else seeded. prefilter: leave out what the model knows already.
    repeat: where `data` holds too few edits, make them again in the same order, with the same answers.
    name: replaces method-model-data in the folder's name, and changes nothing else.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1)
    method: str = Field(min_length=1)
    options: dict[str, Any] = {}
    filter: dict[str, Any] | None = None
    preset: str | None = None
    data: str = Field(min_length=1)
    select: Literal["first", "seeded"] | None = None
    prefilter: bool = False
    repeat: bool = False
    edits: list[int] = Field(min_length=1)
    batch: int = Field(default=1, ge=1)
    setting: Literal["sequential", "single"] = "sequential"
    seed: int = Field(default=0, ge=0)
    tasks: list[str] = []
    limit: int | None = Field(default=None, ge=1)
    data_dir: str | None = Field(default=None, min_length=1)
    engine: Engine = "local"
    prefix_cache: float = Field(default=PREFIX_CACHE, ge=0)
    lower_states: LowerStatesConfig | None = None
    probe_limit: int = Field(default=100, ge=1)
    retention_limit: int = Field(default=100, ge=0)
    chat_template: ChatTemplate = ChatTemplate()
    device: str | None = None
    dtype: str | None = None
    second_moment: SecondMomentConfig | None = None
    stop_at_collapse: bool = False
    name: str | None = Field(default=None, min_length=1)

    @field_validator("filter", mode="before")
    @classmethod
    def _named(cls, filter: Any) -> Any:
        return check_filter(filter) if isinstance(filter, str | dict) else filter

    @model_validator(mode="before")
    @classmethod
    def _variant(cls, values: Any) -> Any:
        """`method: rome:released` is `method: rome` and `preset: released`."""
        if isinstance(values, Mapping) and ":" in str(values.get("method")):
            name, _, variant = values["method"].partition(":")
            return {**values, "method": name, "preset": variant}
        return values

    @field_validator("lower_states", mode="before")
    @classmethod
    def _both_said(cls, said: Any) -> Any:
        if not isinstance(said, str):
            return said
        on, _, gib = said.partition(":")
        if on not in ("memory", "disk") or not re.fullmatch(r"\d+(\.\d+)?", gib):
            raise ValueError("give memory:GIB or disk:GIB, such as disk:8")
        return {"on": on, "gib": float(gib)}

    @field_validator("chat_template", mode="before")
    @classmethod
    def _for_both(cls, chosen: Any) -> Any:
        if isinstance(chosen, str) and chosen != "auto":
            raise ValueError("give auto, true or false, or one of them for each of `edits` and `probes`")
        return {"edits": chosen, "probes": chosen} if isinstance(chosen, bool | str) else chosen

    @field_validator("edits", mode="before")
    @classmethod
    def _scheduled(cls, edits: Any) -> Any:
        if not isinstance(edits, Mapping):
            return edits
        try:
            return Schedule.model_validate(edits).numbers
        except ValidationError as error:
            raise ValueError(_explain_all(error, Schedule)) from error

    @field_validator("edits")
    @classmethod
    def _ascending(cls, edits: list[int]) -> list[int]:
        if min(edits) < 0:
            raise ValueError("numbers of edits cannot be negative")
        return sorted({0, *edits})

    @field_validator("tasks")
    @classmethod
    def _expanded(cls, tasks: list[str]) -> list[str]:
        return expand_tasks(tasks)

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        if self.setting == "single" and self.stop_at_collapse:
            raise ValueError("stop_at_collapse is for the sequential setting: single edits are undone, none is the end")
        if self.lower_states and self.engine != "local":
            raise ValueError(f"lower_states is of the engine local; leave it out, or engine: {self.engine}")
        return self


class Resolved(BaseModel):
    """What `config.yaml` in a run's folder holds: the config and all that decides the numbers.

    editor: every hyperparameter, preset included. cases: how many edits the run works on. data_sha256: of
    those cases. items_sha256: by task of the package, of what it asks. versions: of Python, the libraries and Errata;
    threads and machine decide the last bits.
    chat_template: what goes through the model's, without "auto"; nothing did before there was this key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: RunConfig
    editor: dict[str, Any]
    model_fingerprint: str
    data_sha256: str
    cases: int
    items_sha256: dict[str, str] = {}
    versions: dict[str, str]
    chat_template: ChatTemplate = ChatTemplate(edits=False, probes=False)


def load_configs(path: Path) -> list[RunConfig]:
    """The config in a YAML file, or of the run in the folder `path`; where it has `seeds`, one config for each.

    BadInput names what is wrong with it.
    """
    file = RunDir(path).config if path.is_dir() else path
    values = read_mapping(file)
    inner = values.get("config")
    values = dict(inner) if isinstance(inner, dict) else values
    if "seeds" not in values:
        return [parse_config(values, str(file))]
    seeds = values.pop("seeds")
    if "seed" in values or not isinstance(seeds, list) or not seeds:
        raise BadInput(f"{file}: seeds is {seeds!r}; give a list such as [0, 1, 2], a run for each, and no `seed`.")
    return [parse_config({**values, "seed": seed}, str(file)) for seed in dict.fromkeys(seeds)]


def load_config(path: Path) -> RunConfig:
    """As `load_configs`, of a file that is one run."""
    first, *others = load_configs(path)
    if others:
        raise BadInput(f"{path} is {1 + len(others)} runs, one for each of its `seeds`: errata run {path}")
    return first


def each_run(configs: Sequence[RunConfig | Path]) -> list[RunConfig | Path]:
    """Files of several runs replaced by the configs of those; folders of runs stay as they are."""
    parts = [[c] if isinstance(c, RunConfig) or c.is_dir() else load_configs(c) for c in configs]
    return [config for part in parts for config in part]


def place(config: RunConfig | Path, root: Path | str) -> tuple[RunConfig, RunDir]:
    """A config, or what its file holds, with the run's folder: in `root`, or the one that was given itself."""
    if isinstance(config, Path):
        loaded = load_config(config)
        return loaded, RunDir(config) if config.is_dir() else RunDir(Path(root) / run_name(loaded))
    return config, RunDir(Path(root) / run_name(config))


def read_resolved(run: RunDir) -> Resolved:
    """What the run was started with. BadInput if its config.yaml is damaged or from another version."""
    try:
        return Resolved.model_validate(read_mapping(run.config))
    except ValidationError as error:
        raise BadInput(
            f"{run.config} cannot be read: {_explain(error.errors()[0], Resolved)}. It was changed by hand or written "
            "by another version; move the folder away and start the run again."
        ) from error


def parse_config(values: Mapping[str, Any], source: str = "config") -> RunConfig:
    """Check `values`. BadInput names the key, what was found and what would do."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise BadInput(f"{source}: {_explain_all(error, RunConfig)}. Correct it and repeat the command.") from error


def to_yaml(resolved: Resolved) -> str:
    """What `read_resolved` reads again."""
    return str(yaml.safe_dump(resolved.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100))


ALWAYS_HASHED = frozenset(
    "model method options filter preset data edits batch seed tasks limit probe_limit device dtype second_moment "
    "stop_at_collapse".split()
)
"""Keys that a folder's name depends on even at their defaults; later ones must not rename the folders of old runs."""
NEVER_HASHED = frozenset({"name", "data_dir", "prefix_cache", "lower_states"})
"""Keys that change no number."""


def run_name(config: RunConfig) -> str:
    """The folder's name: method, model, data and eight digits of the hash of everything else that decides results."""
    changed = {key for key, field in RunConfig.model_fields.items() if getattr(config, key) != field.default}
    values = config.model_dump(mode="json", include={*ALWAYS_HASHED, *changed} - NEVER_HASHED)
    content = json.dumps(values, sort_keys=True, default=str)
    method = [config.method, config.filter["name"]] if config.filter else [config.method]
    words = [config.name] if config.name else [*method, config.model, config.data]
    return "-".join([*map(_slug, words), hashlib.sha256(content.encode()).hexdigest()[:8]])


def _slug(word: str) -> str:
    """ "EleutherAI/pythia-1b" -> "pythia-1b", "data/my edits.jsonl" -> "my-edits"."""
    last = re.split(r"[/\\]", word.rstrip("/\\"))[-1]
    stem = re.sub(r"\.(jsonl?|csv|parquet|ya?ml|txt)$", "", last)
    return re.sub(r"[^A-Za-z0-9._]+", "-", stem).strip("-.").lower() or "x"


def read_mapping(path: Path) -> dict[str, Any]:
    """Keys and values of a YAML file. BadInput if it cannot be read or holds something else."""
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such config. Write one (docs/runs.md), or name a run's folder.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise BadInput(f"{path} is not YAML: {problem}. Correct it and repeat the command.") from error
    if not isinstance(values, dict):
        raise BadInput(f"{path}: expected keys and values such as `model: atlas`; found {type(values).__name__}.")
    return values


def _explain_all(error: ValidationError, root: type[BaseModel]) -> str:
    return "; ".join(_explain(problem, root) for problem in error.errors(include_url=False))


def _explain(problem: Mapping[str, Any], root: type[BaseModel]) -> str:
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        known = _known_keys(problem["loc"], root)
        near = get_close_matches(str(problem["loc"][-1]), known, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key {where!r}; {hint}"
    if problem["type"] == "missing":
        return f"the key {where!r} is missing"
    told = problem["msg"].removeprefix("Value error, ")
    # What is wrong with several keys together names them itself.
    return f"{where}: {told}; found {problem['input']!r}" if where else told


def _known_keys(location: tuple[str | int, ...], root: type[BaseModel]) -> list[str]:
    nested: dict[str, type[BaseModel]] = {
        "second_moment": SecondMomentConfig,
        "chat_template": ChatTemplate,
        "lower_states": LowerStatesConfig,
        "config": RunConfig,
    }
    inner = [nested[str(part)] for part in location[:-1] if str(part) in nested]
    fields = (inner[-1] if inner else root).model_fields
    return [field.alias or name for name, field in fields.items()]
