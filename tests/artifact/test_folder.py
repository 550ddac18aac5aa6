"""The model folder carries all that prediction needs, and refuses what it is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import polytask as pt
from polytask.artifact.description import FORM, model_folder
from polytask.artifact.folder import save_bundle
from polytask.data.cache import file_digest
from polytask.errors import ModelError, OutputError

Job = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    rows = [{"text": f"text number {n}", "label": "even" if n % 2 == 0 else "odd"} for n in range(20)]
    data = {"train": rows, "dev": rows, "test": rows}
    values = {
        "encoder": str(tiny),
        "tasks": {"parity": {"type": "classification", "data": data}},
        "train": {"max_steps": 2},
    }
    out = tmp_path_factory.mktemp("artifact") / "run"
    pt.train(values, out)
    return out / "model"


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


def test_the_folder_holds_no_pickle(folder: Path) -> None:
    names = {file.name for file in folder.iterdir()}
    assert {"model.safetensors", "polytask.json", "README.md", "tokenizer.json"} <= names
    assert {file.suffix for file in folder.iterdir()} <= {".safetensors", ".json", ".md", ".txt"}


def test_the_encoder_is_stored_once(job: Job, tmp_path: Path) -> None:
    pt.train(job(max_steps=1), tmp_path / "run")
    names = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert sum(name.endswith("word_embeddings.weight") for name in names) == 1


def test_independent_encoders_survive_the_round_trip(job: Job, tmp_path: Path) -> None:
    run = pt.train({**job(max_steps=2), "sharing": {"strategy": "independent"}}, tmp_path / "run")
    loaded = pt.load(tmp_path / "run" / "model")
    assert len(loaded.network.encoders) == 3
    assert loaded.predict(["a text"]) == run.model.predict(["a text"])


def test_the_card_names_tasks_scores_and_sharing(folder: Path) -> None:
    card = (folder / "README.md").read_text("utf-8")
    assert (
        "**parity**: classification\n* labels (training rows): `even` 10, `odd` 10\n* rows: train 20, dev 20, test 20"
        in card
    )
    assert "| parity | test | accuracy " in card
    assert "layer 1-2" in card


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_an_altered_file_is_refused(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(bytes(content))
    with pytest.raises(ModelError, match=rf"{name}: the content differs from what was saved"):
        pt.load(copied)


@pytest.mark.parametrize("listed", [False, True])
def test_the_card_may_be_edited_or_deleted(copied: Path, listed: bool) -> None:
    expected = pt.load(copied).predict(["a text"])
    card = copied / "README.md"
    assert card.name not in described(copied, "sha256")
    if listed:
        path = copied / "polytask.json"
        data = described(copied)
        path.write_text(json.dumps({**data, "sha256": {**data["sha256"], card.name: file_digest(card)}}), "utf-8")
    card.write_text("license: mit\n" + card.read_text("utf-8"), "utf-8")
    assert pt.load(copied).predict(["a text"]) == expected
    card.unlink()
    assert pt.load(copied).predict(["a text"]) == expected


def test_a_missing_file_is_refused(copied: Path) -> None:
    (copied / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="tokenizer.json: missing"):
        pt.load(copied)


@pytest.mark.parametrize("form", [2, FORM - 1, 99])
def test_another_version_is_refused(copied: Path, form: int) -> None:
    path = copied / "polytask.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "form": form}))
    with pytest.raises(ModelError, match=f"written in form {form}, and this version of polytask reads form {FORM}"):
        pt.load(copied)


def test_weights_are_readable_as_other_new_files_are(copied: Path, folder: Path) -> None:
    modes = {file.stat().st_mode & 0o777 for file in folder.iterdir()}
    (copied / "new").touch()
    assert modes == {(copied / "new").stat().st_mode & 0o777}


@pytest.mark.parametrize("name", ["model.safetensors", "polytask.json"])
def test_a_file_that_cannot_be_read_is_told(copied: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def denied(path: Any, *arguments: Any) -> int:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(
        ModelError, match=rf"{name}: cannot be read \(Permission denied\); its owner can make it readable"
    ):
        pt.load(copied)


def test_a_file_name_that_leaves_the_folder_is_refused(copied: Path) -> None:
    path = copied / "polytask.json"
    data = json.loads(path.read_text())
    data["sha256"]["../outside.txt"] = "0"
    path.write_text(json.dumps(data))
    with pytest.raises(ModelError, match="leaves the folder"):
        pt.load(copied)


def test_a_run_folder_stands_for_the_model_inside_it(folder: Path, tmp_path: Path) -> None:
    assert pt.load(folder.parent).predict(["a text"]) == pt.load(folder).predict(["a text"])
    assert pt.load(str(folder.parent)).predict(["a text"]) == pt.load(folder).predict(["a text"])
    assert model_folder(folder.parent) == model_folder(folder) == folder
    with pytest.raises(ModelError, match="not a model folder.*name the folder of a finished run, or a model folder"):
        pt.load(tmp_path)
    with pytest.raises(ModelError, match="not a model folder.*no such folder"):
        pt.load(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="did you mean .*run"):
        pt.load(folder.parents[1])
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ModelError, match="the folder of an unfinished run: continue it with .*--resume"):
        pt.load(tmp_path)


def test_a_folder_that_exists_is_never_overwritten(folder: Path) -> None:
    from polytask.artifact.folder import load_bundle

    with pytest.raises(OutputError, match="the folder exists"):
        save_bundle(folder, load_bundle(folder))


def run_without(packages: list[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run a program for which these packages are not installed."""
    block = f"import sys\nfor name in {packages!r}: sys.modules[name] = None\n"
    return subprocess.run(
        [sys.executable, "-c", block + code], capture_output=True, text=True, timeout=120, check=False
    )


def test_prediction_needs_no_package_of_training(folder: Path) -> None:
    code = f"import polytask\nprint(polytask.load({str(folder)!r}).predict(['a']))"
    done = run_without(["datasets", "pyarrow", "scipy", "sklearn", "torchjd"], code)
    assert done.returncode == 0, done.stderr
    assert "parity" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "extra"), [(["predict", "{model}", "x"], "torch"), (["check", "config.yaml"], "train")]
)
def test_a_missing_package_is_answered_with_its_install_command(folder: Path, arguments: list[str], extra: str) -> None:
    told = [item.format(model=folder) for item in arguments]
    code = f"sys.argv = ['polytask', *{told!r}]\nfrom polytask.cli import main\nmain()"
    done = run_without(["torch", "transformers", "safetensors"], code)
    assert done.returncode == 2
    assert f"pip install 'polytask[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_prediction_loads_no_training_code(folder: Path) -> None:
    code = (
        "import sys, polytask\n"
        f"polytask.load({str(folder)!r}).predict(['a'])\n"
        "wrong = [name for name in sys.modules if name.startswith(('polytask.training', 'polytask.balance',"
        " 'polytask.schedule', 'sklearn', 'datasets'))]\n"
        "assert not wrong, wrong"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def reseal(folder: Path, **values: Any) -> None:
    """Change the description as one who owns the folder can: with hashes that are right."""
    path = folder / "polytask.json"
    data = {**json.loads(path.read_text("utf-8")), **values}
    data["sha256"] = {name: file_digest(folder / name) for name in data["sha256"]}
    path.write_text(json.dumps(data), "utf-8")


def described(folder: Path, *keys: str) -> Any:
    found = json.loads((folder / "polytask.json").read_text("utf-8"))
    for key in keys:
        found = found[key]
    return found


@pytest.mark.parametrize(
    "name", ["config.json", "evil.py", "added_tokens.json", "vocab.model", "chat_templates", "x.onnx"]
)
def test_a_file_that_is_not_listed_is_refused(copied: Path, name: str) -> None:
    (copied / name).mkdir() if name == "chat_templates" else (copied / name).write_text("{}")
    with pytest.raises(ModelError, match=rf"{name}: not listed in polytask.json"):
        pt.load(copied)


def test_notes_and_pictures_beside_a_model_are_no_fault(copied: Path) -> None:
    for name in ("NOTES.md", ".gitattributes", "curve.png"):
        (copied / name).write_text("x")
    assert pt.load(copied).predict(["a text"])


def test_only_listed_files_are_opened(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: set[str] = set()
    sys.addaudithook(lambda event, args: opened.add(str(args[0])) if event == "open" and _ON else None)
    _ON.append(True)
    pt.load(copied)
    _ON.clear()
    inside = {Path(name).name for name in opened if name.startswith(str(copied))}
    assert inside <= {"polytask.json", *described(copied, "sha256")}
    assert "tokenizer.json" in inside


_ON: list[bool] = []


VALUES: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "precision": (("precision",), "fp8", "precision: found 'fp8'; accepted: auto, bf16, fp32"),
    "no number of tokens": (("max_tokens",), "128", "max_tokens: found '128'; expected a whole number"),
    "too many tokens": (("max_tokens",), 10**9, "max_tokens: found 1000000000; expected a whole number"),
    "more tokens than positions": (("max_tokens",), 129, "max_tokens: found 129; the encoder reads 128"),
    "no tasks": (("tasks",), {}, "tasks: found none"),
    "a list of tasks": (("tasks",), [], "cannot be read"),
    "labels of another number": (("tasks", "parity", "fitted", "classes"), ["even"], "expected one for each label"),
    "labels twice": (("tasks", "parity", "fitted", "classes"), ["even", "even"], "a label occurs twice"),
    "labels that are none": (("tasks", "parity", "fitted", "classes"), [1, 2], "cannot be read"),
    "a temperature below 0": (("tasks", "parity", "tuned", "temperature"), -1.0, "temperature is -1.0"),
    "a temperature of text": (("tasks", "parity", "tuned", "temperature"), "1", "cannot be read"),
    "an unknown option": (("tasks", "parity", "options", "evil"), 1, "cannot be read"),
    "more labels than outputs": (("tasks", "parity", "fitted"), {"classes": list("abc"), "counts": [1] * 3}, "not fit"),
    "a reader of itself": (("tasks", "parity", "options", "reads"), {"parity": "probabilities"}, "the task itself"),
    "many layers": (("encoder", "num_hidden_layers"), 10**9, "num_hidden_layers: found 1,000,000,000"),
    "some layers": (("encoder", "num_hidden_layers"), 900, "there are 3"),
    "one layer more": (("encoder", "num_hidden_layers"), 3, "do not fit"),
    "wide layers": (("encoder", "hidden_size"), 2**20, "no tensor has that size"),
    "other layers": (("encoder", "intermediate_size"), 32, "do not fit together"),
    "many positions": (("encoder", "max_position_embeddings"), 10**12, "max_position_embeddings: found"),
    "another family": (("encoder", "model_type"), "roberta", "the encoder reads 126"),
    "unknown family": (("encoder", "model_type"), "gpt2", "family 'gpt2' is not supported"),
    "code": (("encoder", "auto_map"), {"AutoModel": "evil.Model"}, "auto_map: needs its own code"),
    "a kernel": (("encoder", "attn_implementation"), "someone/evil", "loaded as code"),
    "many experts": (
        ("sharing", "mixing"), {"method": "mmoe", "from_layer": 1, "options": {"experts": 10**9}}, "0000 experts"
    ),
    "no encoder": (("encoder",), [], "do not fit together"),
    "no sharing": (("sharing",), None, "do not fit together"),
    "another runtime": (("runtime",), "tensorflow", "found the runtime 'tensorflow'"),
    "a list of runtimes": (("runtime",), [], "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", VALUES)
def test_values_that_cannot_be_are_refused_before_anything_is_built(case: str, copied: Path) -> None:
    path, value, told = VALUES[case]
    data = described(copied)
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    reseal(copied, **data)
    with pytest.raises(ModelError) as caught:
        pt.load(copied)
    assert told in str(caught.value)
    assert str(copied) in str(caught.value)


def test_a_list_without_weights_or_tokenizer_is_refused(copied: Path) -> None:
    for name in ("tokenizer.json", "model.safetensors"):
        hashes = described(copied, "sha256")
        path = copied / "polytask.json"
        left = {key: value for key, value in hashes.items() if key != name}
        path.write_text(json.dumps({**described(copied), "sha256": left}), "utf-8")
        with pytest.raises(ModelError):
            pt.load(copied)
        path.write_text(json.dumps({**described(copied), "sha256": hashes}), "utf-8")


@pytest.mark.parametrize("name", ["../evil", "a/b", ".", "..", "", "a.b", "a\\b", "a\nb", "c:d"])
def test_a_task_whose_name_is_a_path_is_refused(name: str, copied: Path) -> None:
    reseal(copied, tasks={name: described(copied, "tasks", "parity")})
    with pytest.raises(ModelError, match="found the name"):
        pt.load(copied)


@pytest.mark.parametrize(
    "content", ["", "[]", "[" * 100_000, f'{{"form": {FORM}, "max_tokens": NaN}}', "\x00", '{"form": []}']
)
def test_a_description_that_is_none_is_told_without_a_traceback(content: str, copied: Path) -> None:
    (copied / "polytask.json").write_text(content)
    with pytest.raises(ModelError):
        pt.load(copied)


def test_tokens_without_an_embedding_are_told(copied: Path) -> None:
    tokenizer = json.loads((copied / "tokenizer.json").read_text("utf-8"))
    tokenizer["model"]["vocab"]["zebra"] = 10**6
    (copied / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    reseal(copied)
    model = pt.load(copied)
    assert model.predict(["a horse"])
    with pytest.raises(ModelError, match=r"the tokenizer returned the token id 1000000, but there are \d+ embeddings"):
        model.predict(["a zebra"])
