"""Masked language modelling: what is hidden, what is learned, and that the model that is kept knows nothing of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoTokenizer

import polytask as pt
from polytask.assemble import assemble
from polytask.config import validate
from polytask.data.masking import Masker
from polytask.data.stream import DrawnRow
from polytask.evaluation.scoring import Scorer
from samples import corpus_rows, write_jsonl


@pytest.fixture(scope="module")
def masker(minilm: str) -> Masker:
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    return Masker.of(tokenizer, len(tokenizer), seed=3)


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> dict[str, Any]:
    """A configuration of a labelled task beside texts without labels, of which some are the labelled ones."""
    base = tmp_path_factory.mktemp("mlm")
    rows = corpus_rows(60)
    few = {split: str(write_jsonl(base / f"few-{split}.jsonl", rows[:24])) for split in ("train", "dev")}
    few["test"] = str(write_jsonl(base / "test.jsonl", rows[24:36]))
    texts = [{"text": row["text"]} for row in rows] + [{"text": " "}]
    many = {
        "train": str(write_jsonl(base / "texts.jsonl", texts)),
        "dev": str(write_jsonl(base / "dev.jsonl", texts[:20])),
    }
    return {
        "encoder": str(tiny), "max_tokens": 48,
        "tasks": {
            "sentiment": {"type": "classification", "data": few, "label": "sentiment"},
            "words": {"type": "mlm", "data": many},
            "same": {"type": "mlm", "data": few, "mask": 0.3},
        },
        "train": {"max_steps": 12, "batch_size": 8, "learning_rate": 3e-3, "seed": 5, "precision": "fp32"},
    }  # fmt: skip


def test_whole_words_are_hidden_in_the_shares_of_bert(masker: Masker, minilm: str) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(minilm)
    text = "Unbelievably, the housekeepers of Reykjavik overcharged everybody for breakfast; nobody complained. " * 3
    ids = np.array(tokenizer(text)["input_ids"])
    words = np.array([-1 if word is None else word for word in tokenizer(text).word_ids()])
    # What WordPiece goes on with "##" is one word here as well; punctuation is a word of its own in both.
    became: Counter[str] = Counter()
    hidden_words = 0
    for epoch in range(400):
        found = masker.hide(ids, 0.15, (0, 7, epoch))
        chosen = np.isin(np.arange(len(ids)), found.places)
        assert (words[found.places] >= 0).all()
        for word in set(words[found.places].tolist()):
            assert chosen[words == word].all()
        hidden_words += len(set(words[found.places].tolist()))
        assert (found.truth == ids[found.places]).all()
        assert (found.ids[~chosen] == ids[~chosen]).all()
        for new, old in zip(found.ids[found.places], found.truth, strict=True):
            became["mask" if new == tokenizer.mask_token_id else "same" if new == old else "other"] += 1
    total = sum(became.values())
    assert hidden_words / 400 == round(0.15 * (words.max() + 1))
    assert became["mask"] / total == pytest.approx(0.8, abs=0.02)
    assert became["other"] / total == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    ("tokens", "most"),
    [
        (["▁这家", "酒店", "的位置", "很好", "，", "服务", "也", "不错", "。"], 1),  # no spaces between words
        (["▁映画", "は", "とても", "良", "かった", "。"], 1),
        (["▁", *(f"ภ{number}" for number in range(19))], 3),  # Thai: a run of tokens that is no word
        (["▁un", "believ", "ably", "▁quiet", "▁at", "▁night"], 3),
    ],
)
def test_text_without_spaces_is_not_hidden_whole(tokens: list[str], most: int) -> None:
    vocabulary = {token: index for index, token in enumerate(["<mask>", "</s>", *tokens])}
    tokenizer: Any = SimpleNamespace(mask_token_id=0, all_special_ids=[0, 1], get_vocab=lambda: vocabulary)
    masker = Masker.of(tokenizer, len(vocabulary), seed=3)
    ids = [*(vocabulary[token] for token in tokens), 1]
    hidden = [len(masker.hide(ids, 0.15, (0, 0, epoch)).places) for epoch in range(40)]
    assert min(hidden) >= 1
    assert max(hidden) <= most


def test_what_is_hidden_is_a_function_of_seed_source_row_and_epoch(masker: Masker, minilm: str) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(minilm)
    ids = tokenizer("A film that nobody who has seen it will ever forget, for better or worse. " * 4)["input_ids"]

    def places(one: Masker, *seen: int) -> list[int]:
        return one.hide(ids, 0.2, seen).places.tolist()

    assert places(masker, 0, 1, 2) == places(masker, 0, 1, 2)
    others = [places(masker, 1, 1, 2), places(masker, 0, 2, 2), places(masker, 0, 1, 3)]
    assert places(masker, 0, 1, 2) not in [*others, places(replace(masker, seed=4), 0, 1, 2)]
    assert places(masker) == places(replace(masker, seed=4))  # scores of all seeds are of the same words


def test_rows_without_words_hide_nothing(masker: Masker, minilm: str) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(minilm)
    assert len(masker.hide(tokenizer("")["input_ids"], 0.5).places) == 0
    assert len(masker.hide(tokenizer("word")["input_ids"], 0.01).places) == 1


def test_tasks_that_read_the_same_row_see_it_whole(values: dict[str, Any]) -> None:
    assembly = assemble(validate(values))
    source = next(one for one in assembly.sources["train"] if "same" in one.tasks)
    assert set(source.tasks) == {"sentiment", "same"}
    drawn = [DrawnRow(0, row, ("sentiment", "same"), {"sentiment": 2, "same": 1}) for row in range(4)]
    batch = assembly.collator().from_sources([source], drawn)
    assert batch.rows == 8
    plain = {tuple(source.ids[row]) for row in range(4)}
    for chunk in batch.chunks:
        real = [tuple(ids[mask.bool()].tolist()) for ids, mask in zip(chunk.ids, chunk.mask, strict=True)]
        rows = chunk.tasks["sentiment"].rows.tolist() if "sentiment" in chunk.tasks else []
        assert all(tuple(map(np.int32, real[row])) in plain for row in rows)
        if "same" in chunk.tasks:
            hidden = chunk.tasks["same"].hidden
            assert hidden is not None
            changed = chunk.ids[hidden[0], hidden[1]] != hidden[2]
            assert changed.float().mean() > 0.5


def test_the_loss_is_that_of_transformers(values: dict[str, Any]) -> None:
    assembly = assemble(validate(values))
    model = assembly.model.eval()
    (source,) = (one for one in assembly.sources["dev"] if "words" in one.tasks)
    answers = Scorer(assembly.tasks).answers(assembly.engine(), [source])["words"]
    head: Any = model.head("words")
    encoder: Any = model.trunks[0]
    collator = assembly.collator()
    assert collator.masker is not None
    for index, row in enumerate(answers.rows[:5]):
        hidden = collator.masker.hide(source.ids[row], 0.15)
        ids = torch.from_numpy(hidden.ids)[None]
        with torch.no_grad():
            states = encoder(
                encoder.embed(ids), torch.ones_like(ids), torch.zeros_like(ids), {"words": torch.tensor([0])}
            ).states
            inner = head.norm(torch.nn.functional.gelu(head.transform(states[0, hidden.places])))
            logits = inner @ encoder.words.T + head.bias
        expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(hidden.truth))
        assert answers.predictions[index] == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sharing": {"strategy": "partial", "shared_layers": 1}},
        {"sharing": {"strategy": "independent"}},
        {"balance": {"method": "mgda"}},
        {"schedule": {"strategy": "sequential"}},
        {"train": {"gradient_accumulation_steps": 2}},
    ],
    ids=lambda found: next(iter(found), "plain"),
)
def test_a_model_trains_beside_texts_and_keeps_what_answers(
    values: dict[str, Any], changes: dict[str, Any], tmp_path: Path
) -> None:
    changed = {**values, **changes, "train": {**values["train"], **changes.get("train", {})}}
    run = pt.train(changed, tmp_path / "run")
    assert set(run.model.tasks) == {"sentiment"}
    assert {"sentiment", "words", "same"} == set(run.scores["dev"])
    loaded = pt.load(tmp_path / "run" / "model")
    assert set(loaded.tasks) == {"sentiment"}
    assert loaded.predict(["A fine film."]) == run.model.predict(["A fine film."])
    told = json.loads((tmp_path / "run" / "model" / "polytask.json").read_text("utf-8"))
    assert "mlm" not in json.dumps(told)
    pt.report(tmp_path / "run")


def test_it_learns_and_gradients_reach_the_encoder(values: dict[str, Any]) -> None:
    alone = {**values, "train": {**values["train"], "max_steps": 60}}
    first = pt.train({**values, "train": {**values["train"], "max_steps": 1}}).scores["dev"]["words"]["loss"]
    last = pt.train(alone).scores["dev"]["words"]["loss"]
    assert first is not None
    assert last is not None
    assert last < first - 0.1


def test_needed_by_others_and_refused_where_it_has_no_place(values: dict[str, Any]) -> None:
    tasks = values["tasks"]
    needing = {**tasks, "sentiment": {**tasks["sentiment"], "needs": ["words"]}}
    run = pt.train({**values, "tasks": needing, "schedule": {"strategy": "sequential"}})
    assert run.model.tasks["sentiment"].options.needs == ()
    reading = {**needing, "sentiment": {**needing["sentiment"], "reads": {"words": "probabilities"}}}
    for config, told in (
        ({"tasks": {"words": tasks["words"]}}, "predict nothing once the model is trained"),
        ({"tasks": reading}, "makes no predictions that could be read"),
        ({"sharing": {"strategy": "global", "share_heads": [["words", "same"]]}}, "has a head of its own"),
    ):
        with pytest.raises(pt.ConfigError, match=told):
            pt.train({**values, **config})


FAMILIES = {
    "bert": {}, "roberta": {"type_vocab_size": 1}, "xlm-roberta": {"type_vocab_size": 1}, "mpnet": {},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "modernbert": {"global_attn_every_n_layers": 2, "pad_token_id": 0}, "albert": {"embedding_size": 16},
    "nomic_bert": {}, "gte": {}, "jina_embeddings_v3": {},
}  # fmt: skip


@pytest.mark.parametrize("family", [family for family in FAMILIES if family in CONFIG_MAPPING])
def test_the_pretrained_head_of_a_checkpoint_is_taken(family: str, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForMaskedLM

    from polytask.data.batch import TaskRows
    from polytask.model.encoder import Backbone
    from polytask.model.masked import load_pretrained_heads
    from polytask.model.multitask import MultiTaskModel
    from polytask.sharing.plan import global_plan
    from polytask.sharing.sharing import Sharing
    from polytask.terms import HeadSpec

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    own = FAMILIES[family] if family == "distilbert" else {**sizes, **FAMILIES[family]}
    config = AutoConfig.for_model(family, vocab_size=50, max_position_embeddings=40, **own)
    torch.manual_seed(0)
    theirs = AutoModelForMaskedLM.from_config(config).eval()
    for name, parameter in theirs.named_parameters():  # biases too, which begin as 0
        if "embedding" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    theirs.tie_weights()
    theirs.save_pretrained(tmp_path)
    spec = HeadSpec("row", 1, "mean", 0.0, head="masked")
    model = MultiTaskModel(Backbone.load(str(tmp_path)), Sharing(global_plan(["words"], 2)), {"words": spec}).eval()
    assert load_pretrained_heads(model, str(tmp_path))
    ids = torch.randint(5, 50, (1, 9), generator=torch.Generator().manual_seed(1))
    truth = torch.randint(5, 50, (9,), generator=torch.Generator().manual_seed(2))
    hidden = torch.stack([torch.zeros(9, dtype=torch.long), torch.arange(9), truth])
    with torch.no_grad():
        encoder = model.trunks[0]
        states = encoder(encoder.embed(ids), torch.ones_like(ids), None, {"words": torch.tensor([0])}).states
        found = model.head("words")(states, torch.ones_like(ids), TaskRows(torch.tensor([0]), None, hidden))
        logits = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
    assert float(found) == pytest.approx(float(torch.nn.functional.cross_entropy(logits, truth)), abs=1e-4)
