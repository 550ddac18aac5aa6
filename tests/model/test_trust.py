"""No folder brings code, other weights or absurd sizes with it, and nothing is ever asked on stdin."""

from __future__ import annotations

import ast
import io
import json
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import polytask as pt
from families import CONFIGS, INSTALLED, config, whole
from polytask.cli import main
from polytask.data.cache import file_digest
from polytask.errors import ModelError
from polytask.model.encoder import Backbone
from polytask.model.family import FAMILIES
from polytask.model.loading import load_config, load_tokenizer

ROOT = Path(__file__).parents[2]
CODE = """
from pathlib import Path
Path({witness!r}).write_text("ran")
from transformers import BertConfig, BertModel, BertTokenizer
class Config(BertConfig): pass
class Model(BertModel): config_class = Config
class Tokenizer(BertTokenizer): pass
"""


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Path]:
    """A file that planted code would write."""
    path = tmp_path / "witness"
    yield path
    assert not path.exists(), "code from a folder ran"


@pytest.fixture
def folder(tmp_path: Path, tiny: Path, witness: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An encoder's folder with code beside it; whoever asks on stdin fails."""
    home = Path(shutil.copytree(tiny, tmp_path / "encoder"))
    (home / "evil.py").write_text(CODE.format(witness=str(witness)))

    def asked(*_: object) -> str:
        pytest.fail("asked on stdin")

    monkeypatch.setattr("builtins.input", asked)
    return home


def change(file: Path, **values: Any) -> None:
    """Put values into a JSON file; None takes one out."""
    data = {**(json.loads(file.read_text("utf-8")) if file.exists() else {}), **values}
    file.write_text(json.dumps({key: value for key, value in data.items() if value is not None}), "utf-8")


MAPPED = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model", "AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}
PLACES: dict[str, tuple[str, dict[str, Any], str]] = {
    "config": ("config.json", {"auto_map": MAPPED}, "auto_map: needs its own code"),
    "config of an unknown family": ("config.json", {"auto_map": MAPPED, "model_type": "evil"}, "family 'evil'"),
    "hub code": ("config.json", {"auto_map": {"AutoModel": "someone/evil--evil.Model"}}, "auto_map: needs its own"),
    "tokenizer": ("tokenizer_config.json", {"auto_map": MAPPED}, "auto_map: needs its own code"),
    "tokenizer, old form": (
        "tokenizer_config.json", {"auto_map": ["evil.Tokenizer"] * 2, "tokenizer_class": "Evil"}, "auto_map: needs"
    ),
    "tokenizer class that is a loader": (
        "tokenizer_config.json", {"tokenizer_class": "AutoModel"}, "tokenizer_class: found 'AutoModel'"
    ),
    "tokenizer class that is a processor": (
        "tokenizer_config.json", {"tokenizer_class": "AutoProcessor"}, "tokenizer_class: found 'AutoProcessor'"
    ),
    "tokenizer class that is a function": ("tokenizer_config.json", {"tokenizer_class": "pipeline"}, "tokenizer_class"),
    "tokenizer class in the config": ("config.json", {"tokenizer_class": "AutoTokenizer"}, "tokenizer_class"),
    "tokenizer class with a path": ("tokenizer_config.json", {"tokenizer_class": "..evil"}, "tokenizer_class"),
    "attention from the hub": ("config.json", {"attn_implementation": "someone/evil"}, "loaded as code"),
    "attention from the hub, deep": ("config.json", {"_attn_implementation_internal": "someone/x"}, "loaded as code"),
    "attention by part": ("config.json", {"attn_implementation": {"": "kernels-community/x"}}, "loaded as code"),
    "experts from the hub": ("config.json", {"experts_implementation": "someone/evil"}, "loaded as code"),
    "quantised weights": ("config.json", {"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
    "weights elsewhere": ("config.json", {"transformers_weights": "../x.safetensors"}, "transformers_weights: found"),
    "tokenizer files elsewhere": (
        "tokenizer_config.json", {"fast_tokenizer_files": ["../../tokenizer.1.0.json"]}, "fast_tokenizer_files: found"
    ),
    "arguments of the tokenizer": ("tokenizer_config.json", {"init_inputs": ["/etc/passwd"]}, "init_inputs: found"),
    "a decoder": ("config.json", {"is_decoder": True}, "is_decoder: found true"),
    "an adapter": ("adapter_config.json", {"base_model_name_or_path": "someone/evil"}, "found an adapter"),
    "many layers": ("config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers: found 1,000,000,000; expected a"),
    "many labels": ("config.json", {"num_labels": 10**9}, "num_labels: found"),
    "many words": ("config.json", {"vocab_size": 10**7}, "vocab_size is 10000000, but no tensor has that size"),
    "wide layers": ("config.json", {"hidden_size": 64000}, "hidden_size is 64000, but no tensor has that size"),
    "endless positions": ("config.json", {"max_position_embeddings": 10**30}, "max_position_embeddings: found"),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_no_place_of_an_encoders_folder_brings_code_or_sizes(place: str, folder: Path) -> None:
    file, values, told = PLACES[place]
    change(folder / file, **values)
    found = "".join(refused(load, str(folder)) for load in (load_tokenizer, Backbone.load))
    assert told in found
    assert str(folder) in found


def refused(load: Callable[[str], Any], folder: str) -> str:
    """Return what is said against a folder; nothing where it loads."""
    try:
        load(folder)
    except ModelError as error:
        return str(error)
    return ""


def test_pickled_weights_run_nothing(folder: Path, witness: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.write_text, (witness, "ran"))

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(ModelError, match="cannot load the encoder"):
        Backbone.load(str(folder))
    torch.save({"a": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot load the encoder"):
        Backbone.load(str(folder))


@pytest.mark.parametrize(
    "content", ["", "[]", "[" * 5000, '{"model_type": []}', '{"model_type": "bert", "to_dict": 5}']
)
def test_a_damaged_configuration_is_told_without_a_traceback(content: str, folder: Path) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelError):
        Backbone.load(str(folder))


def test_the_users_first_line_is_no_consent(
    tiny: Path, tmp_path: Path, witness: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": f"text {n}", "label": str(n % 2)} for n in range(8)]
    values = {"encoder": str(tiny), "tasks": {"a": {"type": "classification", "data": {"train": rows, "dev": rows}}}}
    pt.train({**values, "train": {"max_steps": 1}}, tmp_path / "run")
    home = tmp_path / "run" / "model"
    (home / "evil.py").write_text(CODE.format(witness=str(witness)))
    change(home / "config.json", model_type="evil", auto_map=MAPPED)
    change(home / "tokenizer_config.json", auto_map=MAPPED, tokenizer_class="Evil")
    data = json.loads((home / "polytask.json").read_text("utf-8"))
    data["sha256"] |= {name: file_digest(home / name) for name in ("evil.py", "config.json", "tokenizer_config.json")}
    (home / "polytask.json").write_text(json.dumps(data), "utf-8")
    texts = io.StringIO("y\ny\n")
    monkeypatch.setattr(sys, "stdin", texts)
    monkeypatch.setattr(sys, "argv", ["polytask", "predict", str(home), "-"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "auto_map: needs its own code" in capsys.readouterr().err.replace("\n", " ")
    assert texts.tell() == 0


def test_every_call_of_transformers_refuses_remote_code() -> None:
    loaders = {"from_pretrained", "from_config"}
    found = 0
    for file in [*(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in loaders:
                found += 1
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                told = ast.unparse(given["trust_remote_code"]) if "trust_remote_code" in given else ast.unparse(node)
                assert told == "False" or "**options" in told, f"{file}:{node.lineno}"
    assert found >= 5


# weights


def saved(tmp_path: Path, family: str, model: Any = None) -> Path:
    """Save a tiny encoder of a family and return its folder."""
    folder = tmp_path / family
    torch.manual_seed(0)
    (whole(CONFIGS[family]) if model is None else model).save_pretrained(folder)
    return folder


def rewrite(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.sampled(3)
@pytest.mark.parametrize("family", INSTALLED)
def test_a_tensor_that_is_missing_or_left_over_is_refused_and_the_pooler_is_not(family: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, family)
    rewrite(folder, lambda weights: [weights.pop(name) for name in list(weights) if "pooler" in name])
    last = Backbone.load(str(folder)).layers - 1
    place, behind = f".{last}.", f".{last + 1}."
    assert last == (0 if FAMILIES[family].one_set else 1)
    name = next(name for name in load_file(folder / "model.safetensors") if place in name and "decoder" not in name)
    rewrite(folder, lambda weights: weights.update({name.replace(place, behind, 1): weights[name].clone()}))
    with pytest.raises(ModelError, match=rf"do not fit the configuration: they hold unknown \S*\{behind}"):
        Backbone.load(str(folder))
    rewrite(folder, lambda weights: [weights.pop(name.replace(place, behind, 1)), weights.pop(name)])
    with pytest.raises(ModelError, match=rf"do not fit the configuration: they lack \S*\{place}"):
        Backbone.load(str(folder))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("family", [family for family in INSTALLED if family != "t5gemma"])
def test_heads_beside_the_encoder_are_no_fault(family: str, tmp_path: Path) -> None:
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForMaskedLM,
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
    )

    expected: dict[str, torch.Tensor] = {}
    language = AutoModelForCausalLM if FAMILIES[family].decoder else AutoModelForMaskedLM
    for kind in (language, AutoModelForSequenceClassification, AutoModelForTokenClassification):
        if kind is AutoModelForTokenClassification and FAMILIES[family].head.words is None:
            continue
        torch.manual_seed(1)
        whole = kind.from_config(config(family))
        folder = saved(tmp_path / kind.__name__, family, whole)
        expected = {name: value for name, value in whole.base_model.state_dict().items() if "pooler" not in name}
        found = Backbone.load(str(folder)).model.state_dict()
        assert all(torch.equal(found[name.replace("layer.0.", "layer.0.")], value)
                   for name, value in expected.items() if name in found)  # fmt: skip
        # The same head with a layer more of the encoder is another model's.
        prefix = whole.base_model_prefix
        last = Backbone.load(str(folder)).layers - 1
        place, behind = f".{last}.", f".{last + 1}."
        own = (prefix, family)  # checkpoints on the hub are named by either
        name = next(name for name in load_file(folder / "model.safetensors") if place in name and name.startswith(own))
        more = {name.replace(place, behind, 1): load_file(folder / "model.safetensors")[name]}
        rewrite(folder, lambda weights, more=more: weights.update(more))
        with pytest.raises(ModelError, match="they hold unknown"):
            Backbone.load(str(folder))


def test_other_shapes_are_refused_by_name(tmp_path: Path) -> None:
    folder = saved(tmp_path, "bert")
    change(folder / "config.json", type_vocab_size=7)
    with pytest.raises(ModelError, match="they have other shapes of embeddings.token_type_embeddings.weight"):
        Backbone.load(str(folder))


def test_the_real_encoders_are_whole(minilm: str) -> None:
    assert load_config(minilm).model_type == "bert"
    assert Backbone.load(minilm).layers == 6
