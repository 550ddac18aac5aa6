"""Files for KServe: they can be read, and ask only for what the command line and the server have."""

from __future__ import annotations

from typing import Any

import httpx
import typer
import yaml

from pages import DOCS, ROOT
from polytask.cli import app

SERVING = ROOT / "examples" / "serving"


def services() -> dict[str, Any]:
    found = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sorted(SERVING.glob("*.yaml"))}
    assert list(found) == ["kserve-polytask", "kserve-triton"]
    return found


def test_both_are_inference_services_of_one_predictor() -> None:
    for service in services().values():
        assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
        assert set(service["spec"]) == {"predictor"}
    model = services()["kserve-triton"]["spec"]["predictor"]["model"]
    assert (model["modelFormat"], model["protocolVersion"]) == ({"name": "triton", "version": "2"}, "v2")


def test_the_container_starts_a_command_that_there_is_and_is_asked_at_routes_that_there_are(
    client: httpx.Client,
) -> None:
    (container,) = services()["kserve-polytask"]["spec"]["predictor"]["containers"]
    assert container["name"] == "kserve-container"
    assert container["command"] == ["polytask", "serve", "/mnt/models"]
    made: Any = typer.main.get_command(app)
    options = {name for one in made.commands["serve"].params for name in one.opts}
    assert set(container["args"][::2]) <= options
    given = dict(zip(container["args"][::2], container["args"][1::2], strict=True))
    assert int(given["--port"]) == container["ports"][0]["containerPort"]
    for probe in ("readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] == int(given["--port"])
        assert client.get(asked["path"]).status_code == 200


def test_the_page_names_both_files() -> None:
    text = (DOCS / "serving.md").read_text("utf-8")
    for name in services():
        assert f"examples/serving/{name}.yaml" in text
