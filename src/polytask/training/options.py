"""The options of training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, ValidationInfo, field_validator, model_validator

from polytask.options import Options
from polytask.reference_scores import resolve_runs
from polytask.registry import NameOf
from polytask.training.optimizers import OPTIMIZERS

Rate: TypeAlias = Annotated[float, Field(gt=0)] | Literal["auto"]


class TrainOptions(Options):
    """Options of the updates, their number, evaluation and checkpoints."""

    epochs: float = Field(default=3, gt=0, le=1_000_000, description="passes over as many rows as all sources have")
    max_steps: int | None = Field(
        default=None, ge=1, description="stop after this many updates, regardless of `epochs`"
    )
    batch_size: Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"] = Field(
        default="auto",
        description="rows per update, over all tasks, accumulation steps and processes; auto: 16, or 8 if a row trains "
        "more than two tasks together",
    )
    gradient_accumulation_steps: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="number of pieces into which the rows of an update are split to save memory; the update "
        "stays the same, since batch_size counts the rows of all pieces",
    )
    max_tokens_per_batch: int | None = Field(
        default=None,
        ge=1,
        le=100_000_000,
        description="maximum number of tokens, padding included, that pass the encoder on a device at once; an update "
        "with more is split into more pieces and stays the same",
    )
    learning_rate: Rate = Field(
        default="auto", description="peak learning rate of the encoder; auto: chosen by its width and depth"
    )
    head_learning_rate: Rate = Field(
        default="auto", description="peak learning rate of the heads; auto: at least 25 times the encoder's, up to 0.01"
    )
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="factor of the learning rate from each layer to the one below it"
    )
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="shape of the learning rate after the warmup"
    )
    min_lr_ratio: float = Field(default=0.0, ge=0, le=1, description="final learning rate, relative to the peak")
    weight_decay: float = Field(default=0.01, ge=0, description="weight decay; biases and norms are not decayed")
    optim: Annotated[str, NameOf(OPTIMIZERS)] = Field(
        default="adamw", description="optimizer; its learning rates and weight decay come from these options"
    )
    attention_dropout: float | None = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="attention dropout of the encoder in training; 0 allows fused attention; null keeps the "
        "encoder's value",
    )
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1, description="share of the updates used for linear warmup")
    max_grad_norm: float = Field(default=1.0, gt=0, description="maximum gradient norm, for gradient clipping")
    freeze_embeddings: bool = Field(
        default=False,
        description="do not train the word embeddings, which then need no gradient and no optimizer state",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="recompute activations in the backward pass: less memory, more time"
    )
    fsdp: bool = Field(
        default=False,
        description="shard the encoder's weights, gradients and optimizer state over the processes (FSDP2), layer by "
        "layer; its checkpoints resume on any number of processes",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 if the hardware is fast at it"
    )
    device: str = Field(default="auto", description="auto: cuda if available; or cpu, cuda, cuda:1")
    teachers: tuple[str, ...] = Field(
        default=(),
        description="runs or model folders that teach the tasks they have, or jsonl files of answers: the loss shifts "
        "from their outputs to the labels during training",
    )
    seed: int = Field(
        default=13, ge=0, lt=2**63, description="seed of the heads' initial weights, dropout and the order of the rows"
    )
    evaluations_per_epoch: int = Field(default=1, ge=1, description="evaluations on the dev rows per epoch")
    patience: int | None = Field(default=None, ge=1, description="stop after this many evaluations without improvement")
    select: str = Field(
        default="gap",
        min_length=1,
        description="how the best evaluation is chosen: gap: by the mean distance from the baselines; mean: by the "
        "mean of the main metrics; worst: by the smallest distance of any task; or a task's name: by its score",
    )
    baselines: dict[str, float | str] | None = Field(
        default=None,
        description="the dev score that each task is compared with: a number, or the folder of an earlier run; by "
        "default the majority baseline's, on a scale where a perfect score is 1",
    )
    best_of_each_task: bool = Field(
        default=False, description="also save the model of each task's best evaluation, in RUN/best/TASK"
    )
    save_steps: int | None = Field(
        default=None, ge=1, description="updates between two checkpoints; by default one checkpoint per evaluation"
    )
    save_total_limit: int = Field(
        default=2, ge=1, description="number of newest checkpoints to keep; with 1 there is none to fall back to"
    )
    logging_steps: int = Field(default=10, ge=1, description="updates between two lines of the event log")
    report_to: tuple[Literal["tensorboard"], ...] = Field(
        default=(), description="also write losses and scores to TensorBoard: [tensorboard]"
    )

    @property
    def cuts_updates(self) -> bool:
        """Whether the rows of an update may be split into several pieces."""
        return self.gradient_accumulation_steps > 1 or self.max_tokens_per_batch is not None

    @field_validator("teachers")
    @classmethod
    def _folders_are_relative_to_the_file(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        base = (info.context or {}).get("base")
        return value if base is None else tuple(str(Path(base, folder).resolve()) for folder in value)

    @field_validator("baselines")
    @classmethod
    def _runs_are_relative_to_the_file(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        return resolve_runs(value, info)

    @model_validator(mode="after")
    def _baselines_are_read(self) -> TrainOptions:
        if self.baselines is not None and self.select not in ("gap", "worst"):
            raise ValueError(f"found baselines with select {self.select!r}; only gap and worst use them")
        return self
