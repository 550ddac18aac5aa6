"""Load a model folder into the engine that it was written for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, get_args

from polytask.artifact.description import Description, Runtime, read_description
from polytask.errors import ConfigError, MissingExtra, ModelError, missing_extra, nearest
from polytask.extensions import import_extensions
from polytask.inputs import folder_of
from polytask.predict.predictor import Model, require_finite
from polytask.terms import Precision

if TYPE_CHECKING:
    from polytask.artifact.bundle import Bundle

# The text that a model predicts when it is loaded, as a check.
SAMPLE = "A moving film by Ang Lee."


def load(
    folder: str | PathLike[str],
    device: str = "auto",
    precision: Precision | None = None,
    *,
    extensions: Sequence[str] = (),
) -> Model:
    """Load a model folder, or the model of a run's folder.

    Args:
        folder: a model folder, the folder of a run, or a run that was written into one.
        device: auto, cpu, cuda, cuda:0, ...; an ONNX model runs on the CPU.
        precision: by default the one in which the model was scored; an ONNX model has a fixed one.
        extensions: modules that may be imported, such as those that the folder needs; this runs their code.

    Raises:
        ModelError: the folder is not a model folder, was changed, or is from another version.
        ConfigError: the device is not available, the precision unknown, or an extension cannot be imported.
    """
    require_precision(precision)
    import_extensions(extensions)
    description = read_description(folder_of(folder, "folder"))
    model = _LOADERS[description.runtime](description, device, precision)
    require_answers(model, str(description.folder))
    return model


def require_precision(name: str | None) -> None:
    """Raise ConfigError for an unknown precision."""
    if name is not None and name not in get_args(Precision):
        raise ConfigError(f"precision: found {name!r}; {nearest(name, get_args(Precision))}")


def require_answers(model: Model, folder: str) -> None:
    """Raise ModelError unless a model predicts finite numbers of the right shape for a text."""
    from polytask.data.words import split_words

    rows = model.tokens.rows([SAMPLE], None, [split_words(SAMPLE)])
    for task, outputs in model.engine.run(rows, [tuple(model.tasks)])[0].items():
        size = model.tasks[task].head.size
        if outputs.shape[-1:] != (size,):
            raise ModelError(f"{folder}: {task} has {size} outputs, but the model gives {outputs.shape}; copy it again")
        require_finite(task, outputs, folder)


def _load_torch(description: Description, device: str, precision: Precision | None) -> Model:
    try:
        from polytask.artifact.folder import load_described
    except ModuleNotFoundError as error:
        if missing_extra(error) is None:
            raise
        raise MissingExtra(str(error.name), "torch", f"{description.folder}, a model for torch,") from None
    return model_of(load_described(description), device, precision)


def _load_onnx(description: Description, device: str, precision: Precision | None) -> Model:
    from polytask.predict.onnx_engine import load_onnx

    if device not in ("auto", "cpu"):
        raise ConfigError(f"device: found {device!r}; {description.folder} is an ONNX model, which runs on the CPU")
    if precision == "bf16":
        raise ConfigError(f"precision: found 'bf16'; {description.folder} is an ONNX model, whose precision is fixed")
    return load_onnx(description)


_LOADERS: dict[Runtime, Callable[[Description, str, Precision | None], Model]] = {
    "torch": _load_torch,
    "onnx": _load_onnx,
}


def model_of(bundle: Bundle, device: str = "auto", precision: Precision | None = None) -> Model:
    """Return a trained model that runs in torch."""
    from polytask.artifact.folder import save_bundle
    from polytask.data.collator import Collator
    from polytask.data.tokens import Tokenization
    from polytask.model.device import choose_device, pass_overhead
    from polytask.model.engine import TorchEngine
    from polytask.model.loading import pad_id

    place = choose_device(device, "device")
    network = bundle.model.to(place).eval()
    collator = Collator(bundle.tasks, pad_id(bundle.tokenizer), network.uses_type_ids, pass_overhead(place))
    heads = {name: task.head for name, task in bundle.tasks.items()}
    engine = TorchEngine(network, heads, collator, place, precision or bundle.precision)
    tokens = Tokenization.of(bundle.tokenizer, bundle.max_tokens)
    return Model(bundle.tasks, tokens, engine, bundle.about, partial(save_bundle, bundle=bundle))
