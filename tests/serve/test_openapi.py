"""Requests made from the OpenAPI document, good ones and bad ones: no answer is our fault, each is as documented."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")


@pytest.mark.parametrize("examples", [25, pytest.param(120, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_requests_of_every_form_are_answered_as_documented(client: httpx.Client, mode: str, examples: int) -> None:
    document = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
    # A row whose columns no task knows is of the form, and is refused.
    refusal = schemathesis.checks.positive_data_acceptance
    rejection = schemathesis.checks.negative_data_rejection
    statuses: set[int] = set()
    names: set[str] = set()
    for found in document.get_all_operations():
        operation = found.ok()
        if mode == "NEGATIVE" and operation.method == "get":
            continue  # nothing can be wrong with it

        # The pytest plugin of schemathesis reads what newer versions of pytest keep elsewhere; its strategies do not.
        @settings(
            max_examples=examples if operation.method == "post" else 5, derandomize=True, deadline=None,
            phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=getattr(schemathesis.GenerationMode, mode)))
        def ask(case: Any) -> None:
            response = case.call()
            too_large = [rejection] if response.status_code == 413 else []  # which it does not count as one
            case.validate_response(response, excluded_checks=[refusal, *too_large])
            assert response.status_code < 500
            statuses.add(response.status_code)

        ask()
        names.add(operation.path)
    posts = {"/predict", "/v1/systemone", "/v2/models/{name}/infer"}
    gets = {"/tasks", "/health", "/metrics", "/", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/{name}"}
    gets.add("/v2/models/{name}/ready")
    assert names == (posts | gets if mode == "POSITIVE" else posts)
    assert (200 if mode == "POSITIVE" else 422) in statuses
