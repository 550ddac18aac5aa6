"""The supported and tested encoder families: where their layers are, and how they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from polytask.registry import Table
from polytask.terms import HeadSpec

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def _normed(config: Any) -> nn.LayerNorm:  # noqa: ANN401
    return nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)


@dataclass(frozen=True)
class HeadForm:
    """The head of the family's own classification classes: a dense layer, an activation, the output layer.

    Attributes:
        dense, out: paths of the dense layer (None without one) and the output layer in the sequence classification
            class.
        activation: activation of the dense layer, by its name in transformers.
        always: whether token classification heads have the dense layer too.
        norm: builds the norm of the activations, from the encoder's configuration.
        settings: settings that the encoder's configuration needs for the family's own class to compute the same.
        poolings: poolings of the sequence classification class, with its own names for them.
        words: path of the output layer in the token classification class; None if there is no such class.
    """

    dense: str | None = "classifier.dense"
    out: str = "classifier.out_proj"
    activation: str = "tanh"
    always: bool = False
    norm: Callable[[Any], nn.LayerNorm] | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    poolings: Mapping[str, str] = field(default_factory=lambda: {"cls": "cls"})
    words: str | None = "classifier"

    def has_dense(self, spec: HeadSpec) -> bool:
        """Whether a head has the dense layer and the activation and norm after it."""
        return self.dense is not None and (self.always or (spec.level == "row" and spec.pooling in self.poolings))


@dataclass(frozen=True)
class Family:
    """The properties in which families differ.

    Attributes:
        type_ids: whether the encoder takes token type ids.
        layers: path of the module that holds the list of layers, and the list's name.
        outputs: names of the output projections of attention and feed-forward in a layer.
        positional: names of the linear modules that also read relative positions, not only rows.
        head: the modules between a state and a task's outputs.
        offset: number of positions before that of the first token.
        decoder: whether it is a causal language model used as an encoder.
        both_ways: the setting of a decoder's configuration that enables bidirectional attention.
        one_set: whether all layers have the same weights, so that tasks share all of them or none.
        packs: whether attention passes its arguments on, so that layers can compute rows without their padding.
        since: first version of transformers that is known to have the family.
        alone: model type of the encoder alone, if checkpoints hold more than the encoder.
    """

    type_ids: bool
    layers: tuple[str, str] = ("encoder", "layer")
    outputs: tuple[str, ...] = ("output.dense",)
    positional: tuple[str, ...] = ()
    head: HeadForm = HeadForm()
    offset: int = 0
    decoder: bool = False
    both_ways: str | None = None
    one_set: bool = False
    packs: bool = True
    since: str = "5.10"
    alone: str | None = None

    def open(self, location: str, config: PretrainedConfig, **options: Any) -> tuple[nn.Module, dict[str, Any]]:  # noqa: ANN401
        """Load the encoder of a checkpoint, with transformers' report of what was loaded."""
        from transformers import AutoModel

        return AutoModel.from_pretrained(location, config=config, **_LOADING, **options)

    def build(self, config: PretrainedConfig) -> nn.Module:
        """Build the encoder with random weights."""
        from transformers import AutoModel

        return AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)

    def takes_types(self, config: Any) -> bool:  # noqa: ANN401
        """Whether an encoder has separate token type ids for the two texts of a pair."""
        return self.type_ids and getattr(config, "type_vocab_size", 2) != 1

    def is_causal(self, config: Any) -> bool:  # noqa: ANN401
        """Whether a token attends only to those before it."""
        return self.decoder and not (self.both_ways and getattr(config, self.both_ways, False))

    def pooling(self, config: Any) -> str:  # noqa: ANN401
        """Return the default pooling."""
        return "last" if self.is_causal(config) else "mean"

    def has_form_for(self, level: str) -> bool:
        """Whether transformers has a classification class of the family for heads of this level."""
        return self.alone is None and (level == "row" or self.head.words is not None)


# transformers' loading report lists what did not fit; without it, those weights would silently be random.
_LOADING: dict[str, Any] = {
    "trust_remote_code": False, "output_loading_info": True, "ignore_mismatched_sizes": True, "dtype": torch.float32,
}  # fmt: skip


class T5GemmaFamily(Family):
    """The encoder of T5Gemma, whose checkpoints also hold a decoder, which is not loaded."""

    def open(self, location: str, config: Any, **options: Any) -> tuple[nn.Module, dict[str, Any]]:  # noqa: ANN401
        from transformers import T5GemmaEncoderModel
        from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

        alone: Any = T5GemmaEncoder
        pair: Any = T5GemmaEncoderModel
        loading = {key: value for key, value in _LOADING.items() if key != "trust_remote_code"}  # no class to choose
        if config.model_type == self.alone:
            return alone.from_pretrained(location, config=config, **loading, **options)
        config.is_encoder_decoder = False
        whole, report = pair.from_pretrained(location, config=config, **loading, **options)
        own = ("encoder.", "model.encoder.")
        odd = [name for name in report["unexpected_keys"] if name.startswith(own)]
        return whole.encoder, {**report, "unexpected_keys": [name.removeprefix("model.") for name in odd]}

    def build(self, config: PretrainedConfig) -> nn.Module:
        from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

        return T5GemmaEncoder._from_config(config, dtype=torch.float32)  # pyright: ignore[reportPrivateUsage]


_ROBERTA = Family(type_ids=False, offset=2)
# RMS norms before the two halves of a layer, rotary positions, a gated feed-forward.
_GATED = Family(type_ids=False, layers=("", "layers"), outputs=("self_attn.o_proj", "mlp.down_proj"))
_BOTH = {"cls": "cls", "mean": "mean"}
# Their sequence classification classes have no bias, and find the last token by the padding id.
_DECODER = replace(_GATED, decoder=True, head=HeadForm(None, poolings={}, words="score"))

_FAMILIES: dict[str, Family] = {
    "bert": Family(type_ids=True, head=HeadForm("bert.pooler.dense", "classifier")),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "electra": Family(type_ids=True, head=HeadForm(activation="gelu")),
    "distilbert": Family(
        type_ids=False,
        layers=("transformer", "layer"),
        outputs=("attention.out_lin", "ffn.lin2"),
        head=HeadForm("pre_classifier", "classifier", activation="relu"),
    ),
    "mpnet": Family(type_ids=False, outputs=("attention.attn.o", "output.dense"), offset=2, packs=False),
    "modernbert": Family(
        type_ids=False,
        layers=("", "layers"),
        outputs=("attn.Wo", "mlp.Wo"),
        head=HeadForm(
            "head.dense",
            "classifier",
            activation="gelu",
            poolings=_BOTH,
            always=True,
            norm=_normed,
            settings=(("classifier_activation", "gelu"), ("classifier_bias", True)),
        ),
    ),
    # The activation is an option of its configuration.
    "deberta-v2": Family(
        type_ids=True,
        packs=False,
        positional=("query_proj", "key_proj", "pos_query_proj", "pos_key_proj"),
        head=HeadForm("pooler.dense", "classifier", settings=(("pooler_hidden_act", "tanh"),)),
    ),
    "camembert": _ROBERTA,
    "ernie": Family(type_ids=True, head=HeadForm("ernie.pooler.dense", "classifier")),
    "albert": Family(
        type_ids=True,
        layers=("encoder", "albert_layer_groups"),
        outputs=("attention.dense", "ffn_output"),
        head=HeadForm("albert.pooler", "classifier"),
        one_set=True,
    ),
    "eurobert": replace(
        _GATED, head=HeadForm("dense", "classifier", activation="gelu", poolings={"cls": "bos", "mean": "mean"})
    ),
    "nomic_bert": replace(_GATED, type_ids=True, head=HeadForm("nomic_bert.pooler.dense", "classifier")),
    "gte": replace(_GATED, type_ids=True, head=HeadForm("gte.pooler.dense", "classifier"), since="5.23"),
    "jina_embeddings_v3": Family(type_ids=False, layers=("", "layers"), outputs=("self_attn.o_proj", "mlp.fc2")),
    "ultrabert": replace(_GATED, head=HeadForm(None, "classifier", poolings=_BOTH), since="5.23"),
    "t5gemma": T5GemmaFamily(
        type_ids=False,
        layers=_GATED.layers,
        outputs=_GATED.outputs,
        head=HeadForm(None, poolings={}),
        alone="t5_gemma_module",
    ),
    "qwen3": _DECODER,
    "llama": _DECODER,
    "gemma3_text": replace(
        _DECODER, both_ways="use_bidirectional_attention", head=HeadForm(None, poolings={}, words=None)
    ),
}
FAMILIES = Table("encoder family", _FAMILIES, base=Family)


def family_of(model_type: Any) -> Family | None:  # noqa: ANN401
    """Return the family of a model type: that of a checkpoint, or of its encoder alone; None if unsupported."""
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    return next((family for family in FAMILIES.values() if family.alone == model_type and model_type), None)


def family_in(config: Any) -> Family:  # noqa: ANN401
    """Return the family of an encoder's configuration that has been checked."""
    family = family_of(config.model_type)
    assert family is not None, config.model_type
    return family


def layers_of(model: Any, family: Family) -> nn.ModuleList:  # noqa: ANN401
    """Return the list of layers of a Hugging Face encoder."""
    return getattr(model.get_submodule(family.layers[0]), family.layers[1])


def replace_layers(model: Any, family: Family, layers: nn.ModuleList) -> None:  # noqa: ANN401
    """Replace the list of layers."""
    setattr(model.get_submodule(family.layers[0]), family.layers[1], layers)


class Convolved(nn.Module):
    """DeBERTa-v2's first layer together with the convolution that its encoder applies after it."""

    def __init__(self, layer: nn.Module, conv: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.conv = conv

    def forward(self, states: Tensor, mask: Tensor, **options: Any) -> Any:  # noqa: ANN401
        """Return the states after the first layer and the convolution. `mask` has shape (rows, 1, tokens, tokens)."""
        output, *rest = self.layer(states, mask, **options)
        real = mask[:, 0].diagonal(dim1=-2, dim2=-1).long()
        return (self.conv(states, output, real), *rest)


def take_convolution(model: Any) -> None:  # noqa: ANN401
    """Move a convolution after the first layer into that layer."""
    conv = getattr(getattr(model, "encoder", None), "conv", None)
    if conv is not None:
        model.encoder.layer[0] = Convolved(model.encoder.layer[0], conv)
        model.encoder.conv = None
