"""A tokenizer of pieces, as SentencePiece makes them: one token may stand for several words."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import Unigram
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def tokenizer(characters: str, pieces: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Return a tokenizer of single characters, the bare word marker, and pieces, which it prefers."""
    single = [*dict.fromkeys(characters)]
    vocabulary = [
        *((name, 0.0) for name in SPECIAL),
        ("▁", -2.0),
        *((character, -8.0) for character in single),
        *((piece, -1.0) for piece in pieces),
    ]
    backend = Tokenizer(Unigram(vocabulary, SPECIAL.index("<unk>")))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = ("bos", "pad", "eos", "unk", "mask")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", "attention_mask"],
        cls_token="<s>",
        sep_token="</s>",
        **{f"{name}_token": token for name, token in zip(names, SPECIAL, strict=True)},
    )
