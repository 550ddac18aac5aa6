"""Shards answered by Ray actors: the same folder as that of local processes, whatever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stand_in
from test_jobs import answers, content, job, lines, refused, rows_of, until

from polytask.batch.job import PredictionJob, predict_files
from polytask.errors import ConfigError, DataError, Interrupted, PolytaskError, UserError

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")]
ray: Any = pytest.importorskip("ray", reason="needs pip install 'polytask[ray]'")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray of this machine with two cores, or that at RAY_ADDRESS; its workers have the stand-in's model."""
    told = {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    address = os.environ.get("RAY_ADDRESS")
    local = {} if address else {"num_cpus": 2, "include_dashboard": False}
    ray.init(
        address=address or "local", log_to_driver=False, logging_level="critical",
        runtime_env={"env_vars": told, "worker_process_setup_hook": stand_in.replace_models}, **local,
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return stand_in.describe(tmp_path / "model")


def do(asked: PredictionJob) -> list[str]:
    said: list[str] = []
    predict_files(asked, said.append)
    return said


def on_ray(*given: Any, **options: Any) -> PredictionJob:
    made = job(*given, **options)
    return PredictionJob(made.files, made.out, made.work, made.written, made.workers, made.shard_rows, ray=True)


def test_the_folder_is_that_of_local_processes_and_a_killed_actor_loses_no_row(
    cluster: None, forked: Path, tmp_path: Path
) -> None:
    killing = {"at6": f"kill {tmp_path / 'killed'}"}
    texts = lines(tmp_path / "a.jsonl", [*rows_of("a", 20, **killing), {"id": "none", "text": 5}, "no JSON"])
    with pytest.raises(DataError, match="20 rows predicted, .* 2 rows have no prediction"):
        do(on_ray(forked, texts, out=tmp_path / "out", workers=2))
    assert (tmp_path / "killed").exists()
    assert [row["id"] for row in answers(tmp_path / "out")] == [f"a{at}" for at in range(20)]
    assert [row["row"] for row in refused(tmp_path / "out")] == [21, 22]
    with pytest.raises(DataError):
        do(job(forked, texts, out=tmp_path / "local", workers=2))
    assert content(tmp_path / "out") == content(tmp_path / "local")


def test_rows_that_end_every_actor_are_named(cluster: None, folder: Path, tmp_path: Path) -> None:
    texts = lines(tmp_path / "b.jsonl", rows_of("b", 20, at6="kill -"))
    with pytest.raises(
        PolytaskError, match=r"a worker has ended \(Actor.*\), as others did before, over .*: rows 5 to"
    ):
        do(on_ray(folder, texts, out=tmp_path / "out"))
    assert [row["id"] for row in answers(tmp_path / "out")] == [f"b{at}" for at in range(4)]


def test_asked_to_stop_it_finishes_what_is_being_answered(cluster: None, folder: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    texts = lines(tmp_path / "a.jsonl", rows_of("a", 40, at5=f"wait {gate}"))

    def interrupt() -> None:
        until(Path(f"{gate}.reached").exists)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)
        gate.touch()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted, match="the same command continues from there"):
        do(on_ray(folder, texts, out=tmp_path / "out"))
    thread.join()
    assert 8 <= len(answers(tmp_path / "out")) < 40
    assert do(on_ray(folder, texts, out=tmp_path / "out", workers=2))[0].endswith("already done; continuing")
    assert [row["id"] for row in answers(tmp_path / "out")] == [f"a{at}" for at in range(40)]


def test_what_cannot_be_answered_is_told_without_a_traceback(cluster: None, folder: Path, tmp_path: Path) -> None:
    texts = lines(tmp_path / "a.jsonl", rows_of("a", 4))
    with pytest.raises(ConfigError, match=r"--workers: found 3000, and Ray has \d+ cores; each takes one"):
        do(on_ray(folder, texts, out=tmp_path / "many", workers=3000))
    with pytest.raises(UserError, match=r"^long: found 'cut'; accepted: truncate, windows$") as told:
        do(on_ray(folder, texts, out=tmp_path / "out", long="cut"))
    assert told.value.__cause__ is None


def test_columns_keep_their_order_and_types_in_ray_data(cluster: None) -> None:
    import pyarrow as pa

    ray.data.DataContext.get_current().execution_options.preserve_order = True
    ray.data.DataContext.get_current().enable_progress_bars = False
    texts = [None if at == 11 else f"text {at}" for at in range(40)]
    table = pa.table({"id": pa.array(range(40), pa.int64()), "n": pa.array([None, 1] * 20, pa.int64()), "text": texts})
    answered = ray.data.from_arrow(table).repartition(4).map_batches(
        stand_in.Predictor, fn_constructor_args=("model",), fn_constructor_kwargs={"errors": "column"},
        batch_size=7, batch_format="pyarrow", compute=ray.data.ActorPoolStrategy(size=1),
    )  # fmt: skip
    rows = answered.take_all()
    assert [row["id"] for row in rows] == list(range(40))
    assert [row["n"] for row in rows] == [None, 1] * 20
    expected = stand_in.Predictor("model", errors="column")(table).to_pylist()
    assert [row["predictions.tone.label"] for row in rows] == [row["predictions.tone.label"] for row in expected]
    assert {row["error"] for row in rows} == {None}
    assert [row["id"] for row in rows if row["empty"]] == [11]
