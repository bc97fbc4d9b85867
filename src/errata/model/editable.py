"""A Hugging Face causal language model with its edited matrices seen as (d_out, d_in)."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from errata.errors import BadInput
from errata.model import generation, hooks
from errata.model.architecture import architecture, check_config
from errata.model.generation import Generation
from errata.model.routing import Routed, RoutedGenerate, by_model
from errata.model.tokens import TokenBatch, Tokens

if TYPE_CHECKING:
    from errata.update.delta import Additive
    from errata.update.patch import Patch


class EditableModel:
    """One model, its tokenizer and its row of the architecture table.

    The model is put in evaluation mode and its parameters need no gradients. A *site* is the path of
    an edited linear map, such as "model.layers.4.mlp.down_proj". UnsupportedModel for a family
    without a row.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        self.arch = architecture(model.config.model_type)
        check_config(self.arch, model.config, name)
        self.model = model.train(False).requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.n_layers = len(list(self._module(self.arch.layers).children()))
        self._patches: tuple[Patch, ...] = ()
        self._attached: list[hooks.Removable] = []
        self.prompt_ends: Tensor | None = None

    def __repr__(self) -> str:
        return f"EditableModel({self.name!r}, {self.arch.model_type}, {self.n_layers} layers, {self.dtype})"

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def bytes(self) -> int:
        """Of all parameters."""
        return sum(parameter.nbytes for parameter in self.model.parameters())

    @property
    def pad_id(self) -> int:
        """What fills rows behind the mask; any id will do where the tokenizer names none."""
        known = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id)
        return next((int(token) for token in known if token is not None), 0)

    @property
    def context(self) -> int:
        """Positions the model has."""
        return int(self.model.config.max_position_embeddings)

    # Modules and weights

    def site(self, layer: int) -> str:
        """The path of the layer's down projection."""
        self.layer(layer)
        return f"{self.arch.layers}.{layer}.{self.arch.down}"

    def mlp_sites(self, layer: int) -> tuple[str, ...]:
        """The paths of all matrices of the layer's MLP, the down projection last."""
        self.layer(layer)
        return tuple(f"{self.arch.layers}.{layer}.{path}" for path in (*self.arch.up, self.arch.down))

    def layer_of(self, site: str) -> int:
        """The layer that a site belongs to. BadInput if it is in none."""
        head, _, rest = site.partition(f"{self.arch.layers}.")
        index = rest.split(".")[0]
        if head or not index.isdigit():
            raise BadInput(f"{site} is in no layer of {self.name}; layers are {self.arch.layers}.N.")
        return int(index)

    def layer(self, layer: int) -> nn.Module:
        if not 0 <= layer < self.n_layers:
            raise BadInput(f"{self.name} has no layer {layer}; choose from 0 to {self.n_layers - 1}.")
        return self._module(f"{self.arch.layers}.{layer}")

    def mlp(self, layer: int) -> nn.Module:
        """The module whose output the residual stream receives (through `mlp_norm` where there is one)."""
        return self.layer(layer).get_submodule(self.arch.mlp)

    def down(self, layer: int) -> nn.Module:
        return self.layer(layer).get_submodule(self.arch.down)

    def attention(self, layer: int) -> nn.Module:
        return self.layer(layer).get_submodule(self.arch.attention)

    @property
    def embedding(self) -> nn.Module:
        return self._module(self.arch.embedding)

    @property
    def head(self) -> nn.Module:
        """What makes logits of the final stream."""
        return self._module(self.arch.head)

    def weight(self, site: str) -> Tensor:
        """The matrix of a site as a (d_out, d_in) view that shares its memory; not for writing."""
        weight = getattr(self._module(site), "weight", None)
        if not isinstance(weight, Tensor) or weight.dim() != 2:
            raise BadInput(f"{site} of {self.name} is not a linear map; the layers' are {self.site(0)} and so on.")
        return weight.detach().T if self.is_transposed(site) else weight.detach()

    def is_transposed(self, site: str) -> bool:
        """Whether the site's matrix is stored as (d_in, d_out)."""
        return self.arch.transposed and site.startswith(f"{self.arch.layers}.")

    def write(self, site: str, value: Tensor) -> None:
        """Overwrites the matrix of a site. value: (d_out, d_in), cast to the model's dtype.

        Only `EditSession` calls this.
        """
        self.weight(site).copy_(value)

    def shared(self, site: str) -> list[str]:
        """Other parameters that are the same tensor as the site's weight, as tied embeddings are."""
        weight = self._module(site).weight
        named = self.model.named_parameters(remove_duplicate=False)
        return [name for name, parameter in named if parameter is weight and name != f"{site}.weight"]

    def fingerprint(self, through: int | None = None) -> str:
        """SHA-256 (hex) of names, types, shapes and bytes of all parameters and buffers, and of the patches in force.

        through: only what comes before the end of this layer: embeddings and layers 0 to `through`, no patches.
        """
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            if through is None or self._is_below(name, through):
                _absorb(digest, name, tensor)
        for patch in self._patches if through is None else ():
            digest.update(f"{patch.kind} {json.dumps(patch.meta(), sort_keys=True)}".encode())
            for name, tensor in sorted(patch.everything().items()):
                _absorb(digest, name, tensor)
        return digest.hexdigest()

    def _is_below(self, name: str, through: int) -> bool:
        if name.startswith(f"{self.arch.layers}."):
            return self.layer_of(name) <= through
        return not name.startswith((f"{self.arch.norm}.", f"{self.arch.head}."))

    def _module(self, path: str) -> nn.Module:
        try:
            module: nn.Module = self.model.get_submodule(path)
        except AttributeError:
            raise BadInput(
                f"{self.name} has no module {path}; `errata doctor {self.name}` says what the family has."
            ) from None
        return module

    # Forward passes

    def forward(self, batch: TokenBatch) -> Tensor:
        """The model's own logits, (n, t, vocab), scales and soft caps included; differentiable.

        Patches act on modules here, but no row is routed: it does not say where its prompt ends.
        """
        batch = batch.to(self.device)
        output = self.model(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        )
        logits: Tensor = output.logits
        return logits

    @torch.no_grad()
    def logits(self, batch: TokenBatch) -> Tensor:
        """As `forward`, in float32 and without gradients."""
        return self.forward(batch).float()

    def inputs_at(self, batch: TokenBatch, sites: Sequence[str], positions: Tensor | None) -> dict[str, Tensor]:
        """Inputs of sites, or of any modules by path, in float32 at least; the forward pass ends at the last.

        positions: (n,), one for each row, for (n, d_in) a site; None gives (n, t, d_in), padding included.
        """
        return self._read(batch, {site: self._module(site) for site in sites}, positions, inputs=True)

    def outputs_at(self, batch: TokenBatch, paths: Sequence[str], positions: Tensor | None) -> dict[str, Tensor]:
        """Outputs of modules by path, as `inputs_at` gives inputs: (n, d) at positions, or (n, t, d)."""
        return self._read(batch, {path: self._module(path) for path in paths}, positions, inputs=False)

    def hidden_at(self, batch: TokenBatch, layer: int, positions: Tensor | None) -> Tensor:
        """The residual stream after a layer, (n, d_model) at `positions` (n,), float32; stops there."""
        return self._read(batch, {"it": self.layer(layer)}, positions, inputs=False)["it"]

    def mlp_out_at(self, batch: TokenBatch, layer: int, positions: Tensor | None) -> Tensor:
        """What the layer's MLP module returns, (n, d_model) at `positions` (n,), float32; stops there."""
        return self._read(batch, {"it": self.mlp(layer)}, positions, inputs=False)["it"]

    @torch.no_grad()
    def _read(
        self, batch: TokenBatch, modules: Mapping[str, nn.Module], positions: Tensor | None, *, inputs: bool
    ) -> dict[str, Tensor]:
        seen: dict[str, Tensor] = {}

        def note(name: str, tensor: Tensor) -> None:
            seen[name] = hooks.select(tensor, len(batch.ids), positions)
            if len(seen) == len(modules):
                raise hooks.Enough

        handles = [
            module.register_forward_pre_hook(lambda _, args, name=name: note(name, args[0]))
            if inputs
            else module.register_forward_hook(lambda _, args, output, name=name: note(name, hooks.main(output)))
            for name, module in modules.items()
        ]
        with hooks.hooked(handles), suppress(hooks.Enough):
            self.forward(batch)
        return {name: seen[name] for name in modules}

    # Functional changes

    def overlay(self, delta: "Additive") -> AbstractContextManager[None]:
        """Within the context the model computes as if `delta` were added; no weight is touched."""
        here = delta.to(self.device)
        handles = [
            self._module(site).register_forward_hook(
                lambda _, args, output, site=site: output + here.apply(site, hooks.widened(args[0])).to(output.dtype)
            )
            for site in here.sites
        ]
        return hooks.hooked(handles)

    @property
    def patches(self) -> "tuple[Patch, ...]":
        """The memories in force beside the weights, one of each kind."""
        return self._patches

    def attach(self, patches: "Sequence[Patch]") -> None:
        """Puts these memories in force, in place of those that were.

        Only `EditSession` calls this, and `overlaid` for a while.
        """
        while self._attached:
            self._attached.pop().remove()
        for patch in patches:  # a new kind comes last: if it does not fit, those before it are in force again
            self._attached += patch.attach(self)
        if any(patch.routes for patch in patches):
            self._attached.append(RoutedGenerate(self))
        self._patches = tuple(patches)

    def routed(self, prompts: Sequence[Tokens], spare: Sequence[int]) -> list[Routed]:
        """What is run in place of each prompt where a memory says so. spare: tokens that must fit behind each."""
        rows = [Routed(self, tuple(prompt)) for prompt in prompts]
        for patch in self._patches:
            own = by_model(rows).get(self, [])  # what another model answers is settled
            found = patch.route(self, [rows[index].ids for index in own], [spare[index] for index in own])
            for index, row in zip(own, found, strict=True):
                rows[index] = row
        return rows

    @contextmanager
    def asked_at(self, columns: Tensor) -> Iterator[None]:
        """Within the context patches know, as `prompt_ends`, where in a pass the prompts of its rows end.

        columns: (n,) of the last token of each prompt; one that is not among the pass' columns ends elsewhere.
        """
        self.prompt_ends = columns
        try:
            yield
        finally:
            self.prompt_ends = None

    @contextmanager
    def resumed(self, layer: int, output: Any) -> Iterator[None]:
        """Within the context the layers up to `layer` compute nothing and return `output`; none of them for -1."""
        modules = [self.layer(index) for index in range(layer + 1)]
        own = [module.__dict__.get("forward") for module in modules]
        for module in modules:
            module.__dict__["forward"] = lambda *args, **kwargs: output
        try:
            yield
        finally:
            for module, forward in zip(modules, own, strict=True):
                if forward is None:
                    del module.__dict__["forward"]
                else:
                    module.__dict__["forward"] = forward

    def shifted(self, module: nn.Module, positions: Tensor, delta: Tensor) -> AbstractContextManager[None]:
        """Within the context `delta` is added to a module's output at one position a row; differentiable.

        positions: (n,), for a batch of n rows; negative leaves a row alone. delta: (d,) or (n, d).
        """

        def add(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            return hooks.with_main(output, hooks.shift(hooks.main(output), positions, delta))

        return hooks.hooked([module.register_forward_hook(add)])

    # Text

    def generate(self, prompts: Sequence[str], max_new_tokens: int = 32, stop: Sequence[str] = ("\n",)) -> list[str]:
        """Greedy continuations, each up to the first stop string or the end of text."""
        return [row.text for row in self.generate_full(prompts, max_new_tokens, stop)]

    def generate_full(
        self, prompts: Sequence[str], max_new_tokens: int = 32, stop: Sequence[str] = ("\n",)
    ) -> list[Generation]:
        """As `generate`, with whether each ended by itself and stayed finite."""
        return generation.generate(self, prompts, max_new_tokens, stop)


def _absorb(digest: "hashlib._Hash", name: str, tensor: Tensor) -> None:
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
