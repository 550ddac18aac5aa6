"""Small models under any sharing, batches by hand, and what a task's path through a model computes on its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from families import CONFIGS, WORDS, original
from polytask.data.batch import Batch, Chunk, TaskRows
from polytask.model.adapters import Adapter, BottleneckAdapter
from polytask.model.branches import AdapterLayer, CopiedLayer
from polytask.model.encoder import Backbone
from polytask.model.family import FAMILIES, layers_of
from polytask.model.multitask import MultiTaskModel
from polytask.sharing import SHARING, Plan, Sharing
from polytask.sharing.plan import Partition
from polytask.terms import HeadSpec

TASKS = ("a", "b", "c", "d")
LAYERS = 3
KINDS = ("copy", "soft", "lora", "adapter")
HEADS: dict[str, HeadSpec] = {
    "a": HeadSpec("row", 5, "mean", 0.0),
    "b": HeadSpec("word", 4, "mean", 0.0),
    "c": HeadSpec("row", 3, "cls", 0.0),
    "d": HeadSpec("word", 2, "mean", 0.0),
}
# Every form in which a tree can be said, for three layers.
TREES: dict[str, dict[str, Any]] = {
    "global": {"strategy": "global"},
    "shared_layers": {"strategy": "partial", "shared_layers": 1},
    "branches": {
        "strategy": "partial",
        "branches": [
            {"from_layer": 2, "groups": [["a", "b"], ["c", "d"]]},
            {"from_layer": 3, "groups": [["a"], ["b"], ["c", "d"]]},
        ],
    },
    "layers": {
        "strategy": "partial",
        "layers": {
            "embeddings": [["a", "d"], ["b", "c"]],
            "1-2": [["a", "d"], ["b", "c"]],
            "3": [["d"], ["a"], ["b", "c"]],
        },
    },
    "independent": {"strategy": "independent"},
}
# With two levels of extraction or more, and gates that have a choice.
MIXTURES: dict[str, dict[str, Any]] = {
    "mmoe": {"strategy": "mmoe", "from_layer": 2, "experts": 2},
    "ple": {"strategy": "ple", "from_layer": 2, "shared_experts": 1, "task_experts": 1},
    "cross_stitch": {"strategy": "cross_stitch", "from_layer": 2},
}
# One task reads all rows, another some, a third others; a single row; one task alone; tasks that share no row.
READS: tuple[dict[str, list[int]], ...] = (
    {"a": [0, 1, 2, 3, 4], "b": [1, 3], "c": [0, 2, 4]},
    {"b": [5], "d": [5]},
    {"d": [1, 6]},
    {"a": [7], "b": [0, 8], "c": [2], "d": [3, 9]},
)


def sharing_of(options: Mapping[str, Any], tasks: Sequence[str] = TASKS, layers: int = LAYERS) -> Sharing:
    """Build what tasks share, from the values of the configuration."""
    return SHARING[options["strategy"]].model_validate(options).build(list(tasks), layers)


def stack(
    sharing: Sharing | Mapping[str, Any],
    family: str = "bert",
    *,
    seed: int | None = None,
    specs: Mapping[str, HeadSpec] = HEADS,
    **more: Any,
) -> MultiTaskModel:
    """Build a model on the family's tiny encoder.

    Args:
        seed: of what makes all copies, adapters and gates differ; None leaves them as they are built.
        specs: what the tasks ask of their heads.
    """
    one_set = FAMILIES[family].one_set
    found = sharing if isinstance(sharing, Sharing) else sharing_of(sharing, layers=1 if one_set else LAYERS)
    layers = found.mixing.from_layer if found.mixing is not None else found.plan.layers
    torch.manual_seed(0)
    heads = {task: specs[task] for task in found.plan.tasks}
    for first, *others in found.heads:
        heads |= {task: heads[first] for task in others}
    model = MultiTaskModel(Backbone(original(family, max(layers, LAYERS), **more)), found, heads).eval()
    if seed is not None:
        perturb(model, seed)
    return model


def perturb(model: nn.Module, seed: int) -> None:
    """Move every weight a little, each in its own way."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)


def chunk(
    reads: Mapping[str, Sequence[int]], *, width: int | None = None, type_ids: bool = True, rows: Sequence[int] = ()
) -> Chunk:
    """Pad rows together. A row is known by its number: its length and its words are the same in every chunk.

    Args:
        reads: for each task the numbers of its rows.
        rows: numbers of further rows, which nobody reads.
    """
    numbers = sorted({number for found in reads.values() for number in found} | set(rows))
    lengths = [length_of(number) for number in numbers]
    ids = torch.ones(len(numbers), max(lengths) if width is None else width, dtype=torch.int64)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, (number, length) in enumerate(zip(numbers, lengths, strict=True)):
        words = torch.Generator().manual_seed(number)
        ids[row, :length] = torch.randint(5, WORDS, (length,), generator=words)
        mask[row, :length] = 1
        types[row, length // 2 : length] = 1
    tasks: dict[str, TaskRows] = {}
    for task, found in reads.items():
        places = [numbers.index(number) for number in sorted(found)]
        pairs = [(row, token) for row in places for token in range(lengths[row])]
        words_of = torch.tensor(pairs).T if HEADS[task[-1]].level == "word" else None
        tasks[task] = TaskRows(torch.tensor(places), words_of)
    return Chunk(ids, mask, types if type_ids else None, tuple(lengths), tasks)


def length_of(number: int) -> int:
    """Return the tokens of a row: another number for each of the first 29 rows."""
    return 3 + number * 7 % 29


def batch(*chunks: Chunk) -> Batch:
    """Put chunks into a batch without targets."""
    rows = sum(len(found.ids) for found in chunks)
    tokens = sum(int(found.mask.sum()) for found in chunks)
    return Batch(chunks, tuple(range(rows)), {}, rows, tokens, sum(found.ids.numel() for found in chunks))


def batch_of(*reads: Mapping[str, Sequence[int]], type_ids: bool = True) -> Batch:
    """Build a batch from what its chunks' tasks read."""
    return batch(*(chunk(found, type_ids=type_ids) for found in reads))


def takes_types(family: str) -> bool:
    """Whether batches of a family have token type ids."""
    return FAMILIES[family].takes_types(CONFIGS[family])


def heads_on(model: MultiTaskModel, task: str, states: Sequence[Tensor], given: Batch) -> Tensor:
    """Return what a task's head makes of states (for each chunk rows x tokens x width) that another model computed."""
    head = model.head(task)
    return torch.cat(
        [
            head(found, one.mask, one.tasks[task])
            for found, one in zip(states, given.chunks, strict=True)
            if task in one.tasks
        ]
    )


def states_of(encoder: nn.Module, given: Batch) -> list[Tensor]:
    """Run a plain Hugging Face encoder on all rows of all chunks."""
    found: list[Tensor] = []
    for one in given.chunks:
        types = {} if one.type_ids is None else {"token_type_ids": one.type_ids}
        found.append(encoder(input_ids=one.ids, attention_mask=one.mask, **types).last_hidden_state)
    return found


def path(model: MultiTaskModel, task: str, plain: nn.Module) -> nn.Module:
    """Turn a plain encoder into what a task's path through a model computes: its parts, one above another."""
    encoder = next(found for found in model.trunks if task in found.tasks)
    backbone = Backbone(plain)  # DeBERTa's convolution stands with the first layer there
    layers = layers_of(backbone.model, backbone.family)
    trunk = {id(parameter) for parameter in encoder.trunk_parameters()}
    names = {name for name, parameter in encoder.model.named_parameters() if id(parameter) in trunk}
    backbone.model.load_state_dict(
        {name: value for name, value in encoder.model.state_dict().items() if name in names}, strict=False
    )
    for number, (layer, level) in enumerate(zip(layers, encoder.levels, strict=True), start=1):
        place = level.partition.index(model.plan.part(number, task))
        if isinstance(level, CopiedLayer):
            layer.load_state_dict(level.parts[place].state_dict())
        elif isinstance(level, AdapterLayer):
            _load_with_additions(layer, level.layer, place)
    return backbone.model.eval()


def _load_with_additions(layer: nn.Module, divided: nn.Module, place: int) -> None:
    """Load the layer below adapters, and let each linear module add what one part adds."""
    weights = {
        name.replace(".base.", "."): value for name, value in divided.state_dict().items() if ".parts." not in name
    }
    layer.load_state_dict(weights)
    for name, adapter in divided.named_modules():
        if isinstance(adapter, Adapter) and len(adapter.parts):
            layer.get_submodule(name).register_forward_hook(_adding(adapter, adapter.parts[place]))


def _adding(adapter: Adapter, own: nn.Module) -> Any:
    own = copy.deepcopy(own)

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        first, second = own.children()
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        if isinstance(adapter, BottleneckAdapter):
            return output + nn.functional.linear(
                nn.functional.gelu(output @ first.weight.T + first.bias), second.weight, second.bias
            )
        scale = adapter.kind.alpha / adapter.kind.rank
        return output + scale * inputs[0] @ (second.weight @ first.weight).T

    return add


@st.composite
def trees(draw: st.DrawFn, trunks: Partition | None = None, layers: int = LAYERS) -> Plan:
    """Trees that divide parts in two at random, level by level.

    Args:
        trunks: the partition of the embeddings; by default they are divided as well.
    """
    levels: list[Partition] = [trunks or _divided(draw, (frozenset(TASKS),))]
    for _ in range(layers):
        levels.append(_divided(draw, levels[-1]))
    return Plan(TASKS, tuple(levels))


def _divided(draw: st.DrawFn, below: Partition) -> Partition:
    pieces: list[frozenset[str]] = []
    for part in below:
        taken = frozenset(draw(st.sets(st.sampled_from(sorted(part)))))
        pieces.extend(piece for piece in (taken, part - taken) if piece)
    return tuple(pieces)


@st.composite
def row_reads(draw: st.DrawFn, tasks: Sequence[str] = TASKS, rows: int = 5) -> dict[str, list[int]]:
    """Rows of each task at random; a task may be absent."""
    found = {task: draw(st.lists(st.integers(0, rows - 1), unique=True).map(sorted)) for task in tasks}
    reads = {task: numbers for task, numbers in found.items() if numbers}
    return reads or {tasks[0]: [0]}


def total(outputs: Mapping[str, Tensor]) -> Tensor:
    """Return a loss of which every output of every task is a summand of its own."""
    return torch.stack([found.square().sum() for found in outputs.values()]).sum() / 100


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Return the gradient of every parameter, zeros where there is none."""
    model.zero_grad()
    loss.backward()
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in model.named_parameters()
    }


def require_near(rough: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> None:
    """Require that outputs of a bfloat16 pass are float32, and close to those of full precision."""
    for task, found in exact.items():
        assert rough[task].dtype == torch.float32
        torch.testing.assert_close(rough[task], found, atol=0.05, rtol=0.1)
