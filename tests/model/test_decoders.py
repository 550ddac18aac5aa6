"""Decoders are read as encoders: their last token speaks for a text, and their tokenizers are taken as they come."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PretrainedConfig, PreTrainedTokenizerFast, T5GemmaConfig

import polytask as pt
from families import CONFIGS, built, config, whole
from polytask.artifact.folder import load_bundle
from polytask.data.tokens import Tokenization
from polytask.errors import ConfigError, ModelError
from polytask.heads import last
from polytask.model.encoder import Backbone, Encoder
from polytask.model.family import FAMILIES
from polytask.model.loading import load_config, load_tokenizer, quiet, substitute_pad_token
from polytask.sharing import Sharing
from polytask.sharing.plan import global_plan
from samples import corpus_rows

ONE = Sharing(global_plan(["a"], 2))
MAX_TOKENS = 40
FROZEN = {"strategy": "independent", "kind": "lora", "base": "frozen", "rank": 2}


def bytes_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of bytes as decoders have: it adds no special tokens, and pads on the left."""
    alphabet = sorted(ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*special.values(), *alphabet])}
    backend = Tokenizer(BPE(vocabulary, []))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevelDecoder()
    return PreTrainedTokenizerFast(tokenizer_object=backend, padding_side="left", **special)


def saved(folder: Path, family: str, tokenizer: PreTrainedTokenizerFast | None = None, **more: Any) -> Path:
    """Save a tiny decoder with its tokenizer."""
    with quiet():
        torch.manual_seed(1)
        whole(config(family, vocab_size=300, max_position_embeddings=64, **more)).save_pretrained(folder)
        (tokenizer or bytes_tokenizer(eos_token="</s>")).save_pretrained(folder)
    return folder


def test_the_last_token_is_found_on_either_side_of_padding() -> None:
    states = torch.randn(3, 4, 5)
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0]])
    torch.testing.assert_close(last(states, mask), torch.stack([states[0, 1], states[1, 3], states[2, 0]]))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma3_text"])
def test_a_token_reads_those_before_it_unless_the_configuration_says_both_ways(
    family: str, bidirectional: bool
) -> None:
    found = config(family, **({"use_bidirectional_attention": True} if bidirectional else {}))
    both = bidirectional and family == "gemma3_text"
    torch.manual_seed(0)
    stock = built(found).eval()
    encoder = Encoder(Backbone(stock), ONE).eval()
    assert FAMILIES[family].pooling(found) == ("mean" if both else "last")
    ids = torch.randint(5, 120, (1, 9))
    other = torch.cat([ids[:, :8], ids[:, 8:] % 115 + 5], 1)
    with torch.inference_mode():
        one, two = (
            encoder(encoder.embed(row), torch.ones_like(row), None, {"a": torch.arange(1)}).states
            for row in (ids, other)
        )
    assert torch.equal(one[:, :3], two[:, :3]) != both
    assert not torch.equal(one[:, 8], two[:, 8])


def values(encoder: Path, **more: Any) -> dict[str, Any]:
    """Return a configuration of three tasks; one of the texts is empty, and one has a single token."""
    rows: list[dict[str, Any]] = corpus_rows(36)
    rows[0] |= {"text": ""}
    rows[1] |= {"text": "a"}
    for row in rows[:2]:
        row.pop("tokens", None)
        row.pop("tags", None)
    data = {"train": rows[:24], "dev": rows[24:], "test": rows[24:]}
    return {
        "encoder": str(encoder),
        "max_tokens": MAX_TOKENS,
        "tasks": {
            "topic": {"type": "classification", "label": "topic", "data": data},
            "sentiment": {"type": "classification", "label": "sentiment", "pooling": "mean", "data": data},
            "entities": {"type": "tagging", "data": {**data, "train": rows[2:24]}},
        },
        "sharing": FROZEN,
        "train": {"max_steps": 3, "batch_size": 8, "learning_rate": 1e-2, "seed": 5, "precision": "fp32"},
        **more,
    }


def test_tasks_share_a_frozen_decoder_by_lora_from_the_check_to_the_answer(tmp_path: Path) -> None:
    home = saved(tmp_path / "qwen3", "qwen3")
    checked = pt.check(values(home))
    told = {choice.option: (choice.value, choice.reason) for choice in checked.choices}
    assert told["tasks.topic.pooling"] == ("last", "qwen3 reads from left to right: its last token has seen the text")
    assert "tasks.sentiment.pooling" not in told
    notes = " ".join(note.message for note in checked.notes)
    assert "its tokenizer has no padding token; </s> is used for padding, and is masked" in notes
    assert "entities will be less accurate than on an encoder that reads both ways" in notes
    run = pt.train(values(home), tmp_path / "run")
    assert {name: task.options.pooling for name, task in run.model.tasks.items()} == {
        "topic": "last", "sentiment": "mean", "entities": "last",
    }  # fmt: skip
    before = Backbone.load(str(home)).model.state_dict()
    network = pt.load(tmp_path / "run")
    texts = ["", "a", "The home side threw away a two-goal lead.", "\u957f" * 60]
    one_by_one = [network.predict([text], ["topic", "sentiment"])[0] for text in texts]
    for alone, beside in zip(one_by_one, network.predict(texts, ["topic", "sentiment"]), strict=True):
        for task in ("topic", "sentiment"):
            assert beside[task]["probabilities"] == pytest.approx(alone[task]["probabilities"], abs=1e-5)
    (trunk,) = load_bundle(tmp_path / "run" / "model").model.trunks
    before = Backbone.load(str(home)).model.state_dict()
    after = {name.replace(".layer.", ".").replace(".base.", "."): value
             for name, value in trunk.model.state_dict().items() if ".parts." not in name}  # fmt: skip
    assert after.keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in after.items())


def test_a_text_without_a_token_has_one_that_fills(tmp_path: Path) -> None:
    tokens = Tokenization.of(load_tokenizer(str(saved(tmp_path, "llama"))), 8)
    empty, one, words = tokens.rows(["", "a", "a"], None, [None, None, [(0, 1)]])
    assert list(empty.ids) == [0] != list(one.ids)
    assert list(words.word_tokens) == [0]
    assert tokens.whole.rows([""], None, [[]])[0].ids == [0]
    other = Tokenization(Tokenizer.from_str(tokens._plain), 8, type_ids=tokens.type_ids, side=tokens.side, filler=7)
    assert other.fingerprint != tokens.fingerprint


def test_what_stands_for_padding(tmp_path: Path) -> None:
    own = saved(tmp_path / "own", "llama", bytes_tokenizer(eos_token="</s>", pad_token="<pad>"))
    assert substitute_pad_token(load_tokenizer(str(own))) is None
    assert substitute_pad_token(load_tokenizer(str(saved(tmp_path / "eos", "llama")))) == "</s>"
    unknown = saved(tmp_path / "unk", "llama", bytes_tokenizer(unk_token="<unk>"))
    assert substitute_pad_token(load_tokenizer(str(unknown))) == "<unk>"
    with pytest.raises(ModelError, match="no padding token, and no other special token"):
        load_tokenizer(str(saved(tmp_path / "none", "llama", bytes_tokenizer())))


Edit = Callable[[dict[str, Any]], Any]
REFUSED: dict[str, tuple[str, Edit, str]] = {
    "hidden words": ("qwen3", lambda v: v["tasks"].update(words={"type": "mlm", "data": v["tasks"]["topic"]["data"]}),
                     r"tasks\.words\.type: found mlm, but qwen3 reads from left to right"),
    "own layers of one set": ("albert", lambda v: None, "sharing.strategy: found layers that not all tasks share"),
    "too long": ("llama", lambda v: v.update(max_tokens=65), "max_tokens: found 65, but .* reads at most 64 tokens"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_an_encoder_cannot_do_is_said_before_anything_trains(case: str, tmp_path: Path) -> None:
    family, edit, told = REFUSED[case]
    given = values(saved(tmp_path / family, family))
    edit(given)
    with pytest.raises(ConfigError, match=told):
        pt.check(given)


def test_tasks_share_all_of_an_encoder_with_one_set_of_weights(tmp_path: Path) -> None:
    given = values(saved(tmp_path / "albert", "albert"), sharing={"strategy": "global"})
    pt.train(given, tmp_path / "run")
    assert load_bundle(tmp_path / "run" / "model").model.plan.layers == 1
    new = {"tasks": {"new": given["tasks"]["topic"]}, "encoder": given["encoder"]}
    with pytest.raises(ConfigError, match=r"extend\.shared_layers: found layers that not all tasks share"):
        pt.extend(tmp_path / "run", {**new, "extend": {"shared_layers": 0}}, tmp_path / "more")


def test_a_family_that_the_installed_transformers_lacks_is_refused_with_the_version_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    (tmp_path / "config.json").write_text('{"model_type": "gte"}', "utf-8")
    monkeypatch.setattr(transformers, "CONFIG_MAPPING", {"bert": None})
    with pytest.raises(ModelError, match=r"the family 'gte' needs transformers 5\.23 or newer, but \S+ is installed"):
        load_config(str(tmp_path))


def test_a_window_that_would_be_halved_at_each_reading_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_ways = config("gemma3_text", use_bidirectional_attention=True)
    both_ways.save_pretrained(tmp_path)
    window = both_ways.sliding_window
    if type(both_ways).from_dict(both_ways.to_dict()).sliding_window == window:
        assert load_config(str(tmp_path)).sliding_window == window
        plain = PretrainedConfig.to_dict
        # As transformers before 5.23 does.
        monkeypatch.setattr(type(both_ways), "to_dict", lambda self: {**plain(self), "sliding_window": window})
    with pytest.raises(ModelError, match=r"sliding window \(\d+\) of a bidirectional decoder.*5\.23 or newer"):
        load_config(str(tmp_path))


def edited(folder: Path, edit: Edit) -> Path:
    path = folder / "config.json"
    told = json.loads(path.read_text("utf-8"))
    edit(told)
    path.write_text(json.dumps(told), "utf-8")
    return folder


HOSTILE: dict[str, tuple[str, Edit, str]] = {
    "other family": ("t5gemma", lambda told: told.update(model_type="t5gemma2"), "the family 't5gemma2' is not supp"),
    "another's layers": ("qwen3", lambda told: told.update(model_type="llama"), "hold unknown|lack"),
    "a pair elsewhere": ("llama", lambda told: told.update(is_encoder_decoder=True), "is_encoder_decoder: found true"),
    "attention of its part": ("t5gemma", lambda told: told["encoder"].update(_attn_implementation="evil/kernel"),
                              "encoder: _attn_implementation: found 'evil/kernel', which would be loaded as code"),
    "size of its part": ("t5gemma", lambda told: told["encoder"].update(num_hidden_layers=10**6), "encoder: num_hidd"),
    "no settings": ("t5gemma", lambda told: told.update(encoder=3), "encoder: found '3'; expected the settings"),
    "a layer too few": ("gemma3_text", lambda told: told.update(num_hidden_layers=1), "."),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_folders_that_are_not_what_they_say_are_refused(case: str, tmp_path: Path) -> None:
    family, edit, told = HOSTILE[case]
    with pytest.raises(ModelError, match=told):
        Backbone.load(str(edited(saved(tmp_path, family), edit)))


def test_the_encoder_of_a_pair_is_taken_and_its_decoder_left(tmp_path: Path) -> None:
    torch.manual_seed(3)
    both = whole(CONFIGS["t5gemma"]).eval()
    assert isinstance(both.config, T5GemmaConfig)
    both.save_pretrained(tmp_path)
    found = Backbone.load(str(tmp_path), attention_dropout=0.25)
    assert found.config.model_type == "t5_gemma_module"
    assert found.config.attention_dropout == 0.25
    assert all(torch.equal(value, both.encoder.state_dict()[name]) for name, value in found.model.state_dict().items())
    assert Backbone.load(str(saved(tmp_path / "bytes", "t5gemma"))).layers == 2  # of another vocabulary
    both.encoder.save_pretrained(tmp_path / "alone")
    assert Backbone.load(str(tmp_path / "alone")).layers == 2
