"""Options of the server: address, API key, limits, and model settings."""

from __future__ import annotations

from pydantic import Field, SecretStr, model_validator

from polytask.data.windows import Long
from polytask.options import Options
from polytask.terms import Precision


class ServeOptions(Options):
    """Options of `polytask serve`; each is a flag of the command."""

    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 for all networks")
    port: int = Field(default=8000, ge=0, le=65535, description="port; 0 for any free one")
    name: str | None = Field(
        default=None,
        max_length=200,
        description="name of the model on the page and in /tasks; by default that of its folder",
    )
    api_key: SecretStr | None = Field(
        default=None,
        description="API key that clients must send; on the command line it is visible to other users of the machine",
    )
    max_body_bytes: int = Field(default=1_048_576, gt=0, description="maximum bytes of a request's body")
    max_texts: int = Field(default=128, gt=0, description="maximum texts per request")
    max_characters: int = Field(
        default=20_000, gt=0, description="maximum characters of a text, before truncation to max_tokens"
    )
    long: Long = Field(
        default="truncate",
        description="how to handle long texts: truncate, or windows to read the whole text in overlapping parts",
    )
    max_connections: int = Field(default=512, gt=0, le=65_535, description="maximum simultaneous connections")
    max_queue: int = Field(default=1024, gt=0, description="maximum texts waiting for the model")
    timeout_s: float = Field(default=30.0, gt=0, description="seconds until a request times out")
    grace_s: float = Field(
        default=30.0, gt=0, description="seconds for running requests to finish when the server stops"
    )
    batch_texts: int = Field(default=64, gt=0, description="maximum texts per micro-batch; 1 disables batching")
    batch_tokens: int = Field(default=8192, gt=0, description="maximum estimated tokens per micro-batch")
    device: str = Field(default="auto", description="where the model runs: auto, cpu, cuda, cuda:1, ...")
    precision: Precision | None = Field(
        default=None, description="auto, fp32 or bf16; by default the one the model was scored in"
    )

    @model_validator(mode="after")
    def _a_request_finds_room(self) -> ServeOptions:
        if self.max_texts > self.max_queue:
            raise ValueError(
                f"max_texts is {self.max_texts} but max_queue is {self.max_queue}; a request must fit into the queue"
            )
        return self
