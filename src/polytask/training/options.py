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
    """How the weights are updated, for how long, and what is kept."""

    epochs: float = Field(default=3, gt=0, le=1_000_000, description="passes through as many rows as all sources hold")
    max_steps: int | None = Field(
        default=None, ge=1, description="stop after this many updates, whatever `epochs` says"
    )
    batch_size: Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"] = Field(
        default="auto",
        description="rows that pass the encoder in one update, over all tasks, accumulation steps and processes; "
        "auto: 16, or 8 where a row trains more than two tasks together",
    )
    gradient_accumulation_steps: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="number of pieces in which the rows of an update are passed, to save memory; the update "
        "stays the same, since batch_size counts the rows of all pieces",
    )
    max_tokens_per_batch: int | None = Field(
        default=None,
        ge=1,
        le=100_000_000,
        description="most tokens, padding included, that pass the encoder on a device in one piece; an update with "
        "more is cut into more pieces and stays the same",
    )
    learning_rate: Rate = Field(
        default="auto", description="peak learning rate of the encoder; auto: chosen by its width"
    )
    head_learning_rate: Rate = Field(
        default="auto", description="peak learning rate of the heads; auto: 25 times the encoder's or more, up to 0.01"
    )
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="factor of the learning rate from each layer to the one below it"
    )
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="shape of the learning rate after the warmup"
    )
    min_lr_ratio: float = Field(default=0.0, ge=0, le=1, description="final learning rate, relative to the peak")
    weight_decay: float = Field(default=0.01, ge=0, description="of AdamW; biases and norms are left out")
    optim: Annotated[str, NameOf(OPTIMIZERS)] = Field(
        default="adamw", description="optimizer; its rates and weight decay are those of these options"
    )
    attention_dropout: float | None = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="attention dropout of the encoder in training; 0 allows fused attention; null keeps the "
        "encoder's own",
    )
    warmup_ratio: float = Field(
        default=0.1, ge=0, lt=1, description="share of the updates over which the learning rate rises"
    )
    max_grad_norm: float = Field(default=1.0, gt=0, description="maximum norm of the gradient, which is clipped to it")
    freeze_embeddings: bool = Field(
        default=False,
        description="word embeddings stay as the encoder has them, and need no gradient and no state of the optimizer",
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
        default="auto", description="auto: bf16 where the hardware is fast at it"
    )
    device: str = Field(default="auto", description="auto: cuda where there is one; or cpu, cuda, cuda:1")
    teachers: tuple[str, ...] = Field(
        default=(),
        description="runs or model folders that teach the tasks they have, or jsonl files of answers: the loss moves "
        "from their outputs to the labels during training",
    )
    seed: int = Field(
        default=13, ge=0, lt=2**63, description="of the heads' first weights, of dropout, and of the order of the rows"
    )
    evaluations_per_epoch: int = Field(default=1, ge=1, description="how often the dev rows are scored")
    patience: int | None = Field(
        default=None, ge=1, description="stop after this many evaluations without a better one"
    )
    select: str = Field(
        default="gap",
        min_length=1,
        description="which evaluation is kept: gap: the best mean distance from the baselines; mean: the best mean of "
        "the main metrics; worst: the best one of the task that is worst off; or a task's name",
    )
    baselines: dict[str, float | str] | None = Field(
        default=None,
        description="the dev score that each task is compared with: a number, or the folder of an earlier run; by "
        "default the majority baseline's, on a scale that ends at perfect",
    )
    best_of_each_task: bool = Field(
        default=False, description="also save the model of each task's best evaluation, in RUN/best/TASK"
    )
    save_steps: int | None = Field(
        default=None, ge=1, description="updates between two checkpoints; by default one checkpoint at each evaluation"
    )
    save_total_limit: int = Field(
        default=2, ge=1, description="checkpoints that are kept, the newest; of one alone, a damaged one ends the run"
    )
    logging_steps: int = Field(default=10, ge=1, description="updates between two lines of the event log")
    report_to: tuple[Literal["tensorboard"], ...] = Field(
        default=(), description="where losses and scores are written as well: [tensorboard]"
    )

    @property
    def cuts_updates(self) -> bool:
        """Whether the rows of an update may pass in several pieces."""
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
            raise ValueError(f"found baselines beside select {self.select!r}; they are read by gap and worst only")
        return self
