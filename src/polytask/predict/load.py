"""Load a model folder into the engine that it was written for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from polytask.artifact.description import read_description
from polytask.errors import MissingExtra, missing_extra
from polytask.predict.predictor import Model

if TYPE_CHECKING:
    from polytask.artifact.folder import Bundle


def load(folder: str | Path, device: str = "auto", precision: Literal["auto", "fp32", "bf16"] | None = None) -> Model:
    """Load a model folder. Raises ModelError when it is not one, was altered, or is of another version.

    Args:
        device: auto, cpu, cuda, cuda:0, ...
        precision: by default the one in which the model was scored.
    """
    found = read_description(Path(folder))
    try:
        from polytask.artifact.folder import load_described
    except ModuleNotFoundError as error:
        if missing_extra(error) is None:
            raise
        raise MissingExtra(str(error.name), "torch", f"{folder}, a model for torch,") from None
    return model_of(load_described(found), device, precision)


def model_of(bundle: Bundle, device: str = "auto", precision: Literal["auto", "fp32", "bf16"] | None = None) -> Model:
    """Return a trained model, ready to answer in torch."""
    from polytask.data.tokens import Tokenization
    from polytask.model.device import choose_device
    from polytask.model.engine import TorchEngine
    from polytask.model.origin import pad_id
    from polytask.model.speed import keep_rounded

    place = choose_device(device)
    network = bundle.model.to(place).eval()
    keep_rounded(network)
    engine = TorchEngine(network, bundle.tasks, pad_id(bundle.tokenizer), place, precision or bundle.precision)
    return Model(bundle.tasks, Tokenization.of(bundle.tokenizer, bundle.max_tokens), engine, bundle.about)
