"""The encoder families that are promised and tested: where their layers are, and what is particular about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from polytask.registry import Table
from polytask.terms import HeadSpec


def _normed(config: Any) -> nn.LayerNorm:  # noqa: ANN401
    return nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)


@dataclass(frozen=True)
class HeadForm:
    """A head as the family's own classification classes have it: a dense layer, an activation, the output layer.

    Attributes:
        dense, out: where the class that classifies texts keeps the dense layer and the output layer.
        activation: of the dense layer, by its name in transformers.
        always: whether heads that average and heads of words have the dense layer as well.
        norm: builds what normalises the activations, from the encoder's configuration.
        settings: what the encoder's configuration has to say for the family's own class to compute the same.
    """

    dense: str = "classifier.dense"
    out: str = "classifier.out_proj"
    activation: str = "tanh"
    always: bool = False
    norm: Callable[[Any], nn.LayerNorm] | None = None
    settings: tuple[tuple[str, Any], ...] = ()

    def has_dense(self, spec: HeadSpec) -> bool:
        """Whether a head has the dense layer and what follows it."""
        return self.always or (spec.level == "row" and spec.pooling == "cls")


@dataclass(frozen=True)
class Family:
    """What differs between families.

    Attributes:
        type_ids: whether the encoder takes token type ids.
        layers: path of the module that holds the list of layers, and the list's name.
        outputs: names of the linear modules that end the two halves of a layer: attention and feed-forward.
        positional: names of the linear modules that also read relative positions, not only rows.
        head: what stands between a state and a task's outputs.
    """

    type_ids: bool
    layers: tuple[str, str] = ("encoder", "layer")
    outputs: tuple[str, ...] = ("output.dense",)
    positional: tuple[str, ...] = ()
    head: HeadForm = HeadForm()


_FAMILIES: dict[str, Family] = {
    "bert": Family(type_ids=True, head=HeadForm("bert.pooler.dense", "classifier")),
    "roberta": Family(type_ids=False),
    "xlm-roberta": Family(type_ids=False),
    "electra": Family(type_ids=True, head=HeadForm(activation="gelu")),
    "distilbert": Family(
        type_ids=False,
        layers=("transformer", "layer"),
        outputs=("attention.out_lin", "ffn.lin2"),
        head=HeadForm("pre_classifier", "classifier", "relu"),
    ),
    "mpnet": Family(type_ids=False, outputs=("attention.attn.o", "output.dense")),
    "modernbert": Family(
        type_ids=False,
        layers=("", "layers"),
        outputs=("attn.Wo", "mlp.Wo"),
        head=HeadForm(
            "head.dense",
            "classifier",
            "gelu",
            always=True,
            norm=_normed,
            settings=(("classifier_activation", "gelu"), ("classifier_bias", True)),
        ),
    ),
    # The activation is an option of its configuration.
    "deberta-v2": Family(
        type_ids=True,
        positional=("query_proj", "key_proj", "pos_query_proj", "pos_key_proj"),
        head=HeadForm("pooler.dense", "classifier", settings=(("pooler_hidden_act", "tanh"),)),
    ),
}
FAMILIES = Table("encoder family", _FAMILIES, base=Family)


def layers_of(model: Any, family: Family) -> nn.ModuleList:  # noqa: ANN401
    """Return the list of layers of a Hugging Face encoder."""
    return getattr(model.get_submodule(family.layers[0]), family.layers[1])


def replace_layers(model: Any, family: Family, layers: nn.ModuleList) -> None:  # noqa: ANN401
    """Put other modules in the place of the layers."""
    setattr(model.get_submodule(family.layers[0]), family.layers[1], layers)


class Convolved(nn.Module):
    """DeBERTa-v2's first layer with the convolution that follows it, which its loop applies to all rows alike."""

    def __init__(self, layer: nn.Module, conv: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.conv = conv

    def forward(self, states: Tensor, mask: Tensor, **options: Any) -> Any:  # noqa: ANN401
        """Return what the loop has after its first round. `mask` is rows x 1 x tokens x tokens."""
        output, *rest = self.layer(states, mask, **options)
        real = mask[:, 0].diagonal(dim1=-2, dim2=-1).long()
        return (self.conv(states, output, real), *rest)


def take_convolution(model: Any) -> None:  # noqa: ANN401
    """Move a convolution behind the first layer into it."""
    conv = getattr(getattr(model, "encoder", None), "conv", None)
    if conv is not None:
        model.encoder.layer[0] = Convolved(model.encoder.layer[0], conv)
        model.encoder.conv = None
