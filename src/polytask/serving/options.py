"""The options of the server: where it listens, who may ask, and how much at once."""

from __future__ import annotations

from pydantic import Field, SecretStr, model_validator

from polytask.data.windows import Long
from polytask.options import Options
from polytask.terms import Precision


class ServeOptions(Options):
    """Options of `polytask serve`; each is a flag of the command."""

    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 for every network")
    port: int = Field(default=8000, ge=0, le=65535, description="port; 0 for any free one")
    name: str | None = Field(
        default=None,
        max_length=200,
        description="the model's name on the page and in /tasks; by default that of its folder",
    )
    api_key: SecretStr | None = Field(
        default=None, description="the key that a client must send, which other users of the machine can see here"
    )
    max_body_bytes: int = Field(default=1_048_576, gt=0, description="bytes of a request's body")
    max_texts: int = Field(default=128, gt=0, description="texts of a request")
    max_characters: int = Field(
        default=20_000, gt=0, description="characters of a text, before it is cut to max_tokens"
    )
    long: Long = Field(
        default="truncate", description="whether texts that are too long are cut, or read whole in windows"
    )
    max_connections: int = Field(default=512, gt=0, le=65_535, description="connections at once")
    max_queue: int = Field(default=1024, gt=0, description="texts that may wait for the model")
    timeout_s: float = Field(default=30.0, gt=0, description="seconds until a request is given up")
    grace_s: float = Field(default=30.0, gt=0, description="seconds that a stopping server gives to running requests")
    batch_texts: int = Field(default=64, gt=0, description="texts that the model is given at once; 1: no batching")
    batch_tokens: int = Field(default=8192, gt=0, description="tokens that the model is given at once, as estimated")
    device: str = Field(default="auto", description="where the model runs: auto, cpu, cuda, cuda:1, ...")
    precision: Precision | None = Field(default=None, description="by default that in which the model was scored")

    @model_validator(mode="after")
    def _a_request_finds_room(self) -> ServeOptions:
        if self.max_texts > self.max_queue:
            raise ValueError(f"max_texts is {self.max_texts} and max_queue {self.max_queue}; a request must find room")
        return self
