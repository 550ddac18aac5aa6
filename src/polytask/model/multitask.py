"""The model: encoders that follow the sharing plan, and a head for each task."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from polytask.data.batch import Batch, Chunk, TaskRows
from polytask.model.branches import BranchedLayer
from polytask.model.cascade import Cascade
from polytask.model.cpu_kernels import use_bf16_modules
from polytask.model.encoder import Backbone, Encoder
from polytask.model.forward_context import Encoded
from polytask.model.heads import Head, build_head
from polytask.model.shards import differentiable_part
from polytask.model.shared_layer import Origins, size
from polytask.sharing.head_evidence import HeadGroups
from polytask.sharing.plan import Plan
from polytask.sharing.plan import encoder_size as size_of_encoders
from polytask.sharing.sharing import Sharing
from polytask.terms import HeadSpec

# Inputs of a head in a chunk: states, mask and the task's rows.
_HeadInputs: TypeAlias = tuple[Tensor, Tensor, TaskRows]


@dataclass(frozen=True)
class EncodedChunk:
    """A chunk and its final states from its trunk's encoder, in float32."""

    chunk: Chunk
    encoded: Encoded

    def head_inputs(self, task: str) -> _HeadInputs:
        """Return the inputs of a task's head."""
        states, group = self.encoded.of(task)
        if group.rows is None:
            return states, self.chunk.mask, self.chunk.tasks[task]
        return states, self.chunk.mask[group.rows], self.chunk.tasks[task].within(group.rows)


@dataclass(frozen=True)
class _HeadResults:
    """Outputs of heads chunk by chunk, and the inputs of heads that wait for other heads' outputs."""

    outputs: dict[str, list[Tensor]]
    waiting: dict[str, list[_HeadInputs]]


class MultiTaskModel(nn.Module):
    """A model of several tasks: in a mixed batch, a row passes once through each part that its tasks use.

    Attributes:
        sharded: whether the encoders' parameters are sharded over processes (`sharding.py`), which then have to run the
            same layers in the same order.
    """

    def __init__(self, backbone: Backbone, sharing: Sharing, heads: Mapping[str, HeadSpec]) -> None:
        super().__init__()
        self.sharing = sharing
        self.cascade = Cascade(heads)
        self.config: Any = backbone.config
        self.encoder_size = size(backbone)
        trunks = sharing.plan.trunks
        copies = [*(copy.deepcopy(backbone) for _ in trunks[1:]), backbone]
        self.encoders = nn.ModuleList(
            Encoder(own, sharing.trunk(trunk)) for own, trunk in zip(reversed(copies), trunks, strict=True)
        )
        use_bf16_modules(self.encoders)
        self.heads = nn.ModuleDict({_place(task): build_head(heads[task], backbone.config) for task in self.head_names})
        for task in self.head_names:
            self.head(task).bind(self._trunk(task).model.get_input_embeddings())  # type: ignore[operator]
        self._pooled: dict[str, list[Tensor]] = {}
        self.sharded = False

    def _trunk(self, task: str) -> Encoder:
        return next(encoder for encoder in self.trunks if task in encoder.tasks)

    def forward(self, batch: Batch, words: Mapping[frozenset[str], Tensor] | None = None) -> dict[str, Tensor]:
        """Return for each task the float32 input of its loss, in the order of the batch's chunks.

        This is its outputs of shape (rows or words, size), possibly followed by rows that the head learns.

        Args:
            words: word embeddings that `embed` returned for the batch; by default they are looked up.
        """
        wide = self.cascade.widen(batch)
        results = _HeadResults({}, {})
        encoded = self.encode(batch, words)
        for chunk in encoded:
            # Heads are small: full precision costs nothing there and keeps probabilities exact.
            with torch.autocast(chunk.encoded.states.device.type, enabled=False):
                self._answer(chunk, results)
        outputs = {task: torch.cat(pieces) for task, pieces in results.outputs.items()}
        for task in (task for task in self.cascade.readers if task in results.waiting):
            outputs[task] = self._read(task, results.waiting[task], self.cascade.read(task, wide, outputs))
        own = self.cascade.own(batch, wide, outputs)
        return _in_step({task: self.head(task).for_loss(its_outputs) for task, its_outputs in own.items()}, encoded)

    def encode(self, batch: Batch, words: Mapping[frozenset[str], Tensor] | None = None) -> list[EncodedChunk]:
        """Return the final states of the encoders for a batch, chunk by chunk.

        Args:
            words: word embeddings that `embed` returned for the batch; by default they are looked up.
        """
        chunks = self._chunks(self.cascade.widen(batch))
        embedded = self._look_up(chunks) if words is None else words
        encoded: list[EncodedChunk] = []
        for trunk, encoder in zip(self.plan.trunks, self.trunks, strict=True):
            if trunk in chunks:
                encoded += self._encode(encoder, chunks[trunk], embedded[trunk])
        return encoded

    def pooled(self, batch: Batch) -> dict[str, Tensor]:
        """Return the pooled float32 states of each task's head, in the order of its targets."""
        pooled: dict[str, list[Tensor]] = {}
        for encoded in self.encode(batch):
            for task in encoded.chunk.tasks:
                pooled.setdefault(task, []).append(self.head(task).pool(*encoded.head_inputs(task)))
        return {task: torch.cat(pieces) for task, pieces in pooled.items()}

    def embed(self, batch: Batch) -> dict[frozenset[str], Tensor]:
        """Return for each trunk that reads the batch its word embeddings, of shape (all tokens, features)."""
        return self._look_up(self._chunks(self.cascade.widen(batch)))

    def ids(self, batch: Batch) -> dict[frozenset[str], Tensor]:
        """Return for each trunk that reads the batch its token ids, concatenated."""
        return {trunk: _ids(chunks) for trunk, chunks in self._chunks(self.cascade.widen(batch)).items()}

    def _chunks(self, wide: Batch) -> dict[frozenset[str], list[Chunk]]:
        """Return the chunks of each trunk that reads a wide batch, with the rows that it reads."""
        by_trunk = {trunk: [chunk.only(trunk) for chunk in wide.chunks] for trunk in self.plan.trunks}
        kept = {trunk: [chunk for chunk in chunks if chunk is not None] for trunk, chunks in by_trunk.items()}
        return {trunk: chunks for trunk, chunks in kept.items() if chunks}

    def _look_up(self, chunks: Mapping[frozenset[str], Sequence[Chunk]]) -> dict[frozenset[str], Tensor]:
        # One lookup for all chunks: each lookup has a dense gradient of the whole vocabulary in the backward pass.
        encoders = zip(self.plan.trunks, self.trunks, strict=True)
        return {trunk: encoder.embed(_ids(chunks[trunk])) for trunk, encoder in encoders if trunk in chunks}

    def _encode(self, encoder: Encoder, chunks: Sequence[Chunk], flat: Tensor) -> Iterator[EncodedChunk]:
        """Run one encoder over chunks."""
        embedded = flat.split([chunk.ids.numel() for chunk in chunks])
        for chunk, words in zip(chunks, embedded, strict=True):
            idle = chunk.passing.difference(chunk.tasks)
            reads = {task: rows.rows for task, rows in chunk.tasks.items()}
            reads |= {task: chunk.ids.new_zeros(1) for task in sorted(idle)}
            embeddings = words.view(*chunk.ids.shape, -1)
            encoded = encoder(embeddings, chunk.mask, chunk.type_ids, reads, chunk.lengths, chunk.no_grad_tasks, idle)
            yield EncodedChunk(chunk, Encoded(encoded.states.float(), encoded.groups))

    def keep_pooled(self, tasks: Collection[str]) -> None:
        """Collect the pooled states of these tasks' heads in training from now on, until `take_pooled` returns them."""
        self._pooled = {task: [] for task in tasks if task not in self.cascade.readers}

    def take_pooled(self) -> dict[str, Tensor]:
        """Return the detached pooled states since the last call, by task, in the order of the targets."""
        pooled = {task: torch.cat(pieces) for task, pieces in self._pooled.items() if pieces}
        self._pooled = {task: [] for task in self._pooled}
        return pooled

    def _answer(self, encoded: EncodedChunk, results: _HeadResults) -> None:
        """Run the heads that read only the encoder; the inputs of those that read other heads are kept."""
        for task in encoded.chunk.tasks:
            if self.training and task in self._pooled:
                pooled = self.head(task).pool(*encoded.head_inputs(task))
                self._pooled[task].append(pooled.detach())
                results.outputs.setdefault(task, []).append(self.head(task).answer(pooled))
            elif task in self.cascade.readers:
                results.waiting.setdefault(task, []).append(encoded.head_inputs(task))
            else:
                results.outputs.setdefault(task, []).append(self.head(task)(*encoded.head_inputs(task)))

    def _read(self, task: str, waiting: Sequence[_HeadInputs], read: Tensor) -> Tensor:
        """Run a head that reads other heads, over all chunks."""
        pieces = read.split([len(rows) for _, _, rows in waiting])
        with torch.autocast(read.device.type, enabled=False):
            return torch.cat([self.head(task)(*inputs, piece) for inputs, piece in zip(waiting, pieces, strict=True)])

    @property
    def plan(self) -> Plan:
        """The sharing plan."""
        return self.sharing.plan

    @property
    def trunks(self) -> list[Encoder]:
        """The encoders: one for each part of the embeddings, in the plan's order."""
        return [encoder for encoder in self.encoders if isinstance(encoder, Encoder)]

    @property
    def layers(self) -> int:
        """Number of layers that follow the plan."""
        return len(self.trunks[0].levels)

    @property
    def packs(self) -> bool:
        """Whether layers compute rows without their padding."""
        return all(trunk.packs for trunk in self.trunks)

    @property
    def uses_type_ids(self) -> bool:
        """Whether the encoder takes token type ids."""
        return self.trunks[0].takes_types

    def head(self, task: str) -> Head:
        """Return a task's head, which other tasks may share."""
        head = self.heads[_place(self.sharing.head_of(task))]
        assert isinstance(head, Head)
        return head

    @property
    def head_names(self) -> list[str]:
        """The tasks that name the heads: one per group of tasks that share a head."""
        return [task for task in self.plan.tasks if self.sharing.head_of(task) == task]

    def share_heads(self, groups: HeadGroups) -> Origins:
        """Let these groups of tasks share a head from now on; new heads are copies of the previous one.

        Returns:
            For each new parameter, the parameter whose optimizer state it takes over.
        """
        before = {task: self.head(task) for task in self.plan.tasks}
        self.sharing = replace(self.sharing, heads=groups)
        origins: Origins = {}
        heads: dict[str, nn.Module] = {}
        for task in self.head_names:
            old = before[task]
            if any(old is head for head in heads.values()):
                heads[_place(task)] = copy.deepcopy(old)
                origins |= zip(
                    heads[_place(task)].parameters(), ([parameter] for parameter in old.parameters()), strict=True
                )
            else:
                heads[_place(task)] = old
        self.heads = nn.ModuleDict(heads)
        return origins

    def follow(self, plan: Plan) -> Origins:
        """Change the plan of the layers during training; the embeddings stay as they are.

        A part that is split is cloned, so that outputs do not change; parts that are merged are averaged.

        Returns:
            For each new or merged parameter, the parameters whose optimizer state it takes over.
        """
        assert plan.trunks == self.plan.trunks
        origins: Origins = {}
        for encoder in self.trunks:
            origins |= encoder.follow(plan.within(encoder.tasks))
        self.sharing = self.sharing.following(plan)
        return origins

    def word_embeddings(self) -> dict[frozenset[str], nn.Parameter]:
        """Return each trunk's word embeddings, of shape (vocabulary, features)."""
        return {trunk: encoder.words for trunk, encoder in zip(self.plan.trunks, self.trunks, strict=True)}

    def distances(self, cuts: Sequence[tuple[int, frozenset[str], frozenset[str]]]) -> dict[Any, float]:
        """Return the distances of two parts' copies of a layer, relative to their mean norm."""
        return {(level, left, right): self._level(level, left).distance(left, right) for level, left, right in cuts}

    def _level(self, level: int, part: frozenset[str]) -> BranchedLayer:
        encoder = next(encoder for encoder in self.trunks if part <= encoder.tasks)
        return encoder.levels[level - 1]

    def size_under(self, plan: Plan) -> int:
        """Return the number of parameters of the model under another plan with the same trunks."""
        encoders = sum(size_of_encoders(plan.within(encoder.tasks), encoder.size) for encoder in self.trunks)
        return encoders + size(self.heads)

    def size_of_single(self) -> int:
        """Return the number of parameters of a model in which all tasks share the whole encoder."""
        return self.encoder_size + size(self.heads)

    def checkpointing(self, on: bool) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        for encoder in self.trunks:
            encoder.checkpointing(on)

    def freeze(self, layers: int) -> None:
        """Freeze the embeddings and the lowest `layers` layers; 0 freezes none."""
        for encoder in self.trunks:
            encoder.freeze(layers)

    def freeze_words(self) -> None:
        """Freeze the word embeddings."""
        for encoder in self.trunks:
            encoder.freeze_words()

    def tie(self) -> Tensor | None:
        """Return the penalty that keeps the copies in soft sharing close, or None.

        It is `strength` times the sum of squared distances of the copies' weights from their mean, including trunks
        that do not share the embeddings; for sharded weights it is this process's part. Source: soft parameter sharing
        by an L2 distance, Duong et al. 2015, section 3.
        """
        kind = self.sharing.kind
        if kind.name != "soft" or not kind.strength:
            return None
        levels = zip(*(encoder.copies() for encoder in self.trunks), strict=True)
        copies = ([part for trunk in level for part in trunk] for level in levels)
        distances = [_spread(weights) for parts in copies if len(parts) > 1 for weights in zip(*parts, strict=True)]
        return kind.strength * torch.stack(distances).sum() if distances else None

    def passes(self) -> float:
        """Return the encoder work for a text with all tasks, relative to one encoder that they share."""
        return sum(encoder.passes() for encoder in self.trunks)


def _place(task: str) -> str:
    """Return a head's key: a bare name such as "type" or "values" would hide an attribute of the module."""
    return f"task-{task}"


def _in_step(outputs: dict[str, Tensor], encoded: Sequence[EncodedChunk]) -> dict[str, Tensor]:
    """Make the gradient pass, as zeros, through all layers that ran, so that this process stays in step with others.

    A task that runs only in other processes gets empty outputs of shape (0, 1).
    """
    passing = frozenset[str]().union(*(item.chunk.passing for item in encoded))
    if not passing:
        return outputs
    zero = torch.stack([item.encoded.states[:0].sum() for item in encoded]).sum()
    without_rows = dict.fromkeys(sorted(passing - outputs.keys()), zero.new_zeros(0, 1))
    return {task: its_outputs + zero for task, its_outputs in (outputs | without_rows).items()}


def _ids(chunks: Sequence[Chunk]) -> Tensor:
    return torch.cat([chunk.ids.flatten() for chunk in chunks])


def _spread(weights: Sequence[Tensor]) -> Tensor:
    """Return the sum of squared distances of tensors from their mean."""
    stacked = torch.stack([differentiable_part(weight) for weight in weights])
    return (stacked - stacked.mean(0)).square().sum()
