"""The judge's settings: mapping (`reward_kwargs.judge`) -> checks -> one frozen dataclass."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig:
    """Which server judges, and how it is treated. Limits are those of one `Judge`, that is of one process.

    Attributes:
        base_url: of any OpenAI-compatible server, with its version: `http://host:8000/v1`.
        model: the name under which the server knows the judge.
        api_key_env: the environment variable that holds the key; None for a server without keys.
        cache_dir: verdicts are kept here between runs and shared by processes, on a local disk; None keeps none.
        temperature: 0 as far as the server goes; None leaves it out, for models that accept no other than their own.
        max_tokens: of a reply, thinking included; a reply that is cut off is no verdict.
        structured: ask for the verdict's JSON schema (`response_format`); false for servers that do not know it.
        timeout_s: of one request, in seconds.
        attempts: requests per verdict, the first included, while the server fails in ways that may pass.
        max_concurrency: requests in flight.
        requests_per_minute: None for no limit but the one above.

    Raises:
        ValueError: a value without meaning.
    """

    base_url: str
    model: str
    api_key_env: str | None = "OPENAI_API_KEY"
    cache_dir: str | None = None
    temperature: float | None = 0.0
    max_tokens: int = 1024
    structured: bool = True
    timeout_s: float = 60.0
    attempts: int = 5
    max_concurrency: int = 32
    requests_per_minute: float | None = None

    def __post_init__(self) -> None:
        _require(self.base_url.startswith(("http://", "https://")), "base_url", self.base_url, "http://host:port/v1")
        _require(bool(self.model), "model", self.model, "the name that the server knows")
        for key in ("max_tokens", "timeout_s", "attempts", "max_concurrency"):
            _require(getattr(self, key) > 0, key, getattr(self, key), "a number above 0")
        rate = self.requests_per_minute
        _require(rate is None or rate > 0, "requests_per_minute", rate, "a number above 0, or null for no limit")

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "JudgeConfig":
        """Parse `reward_kwargs.judge`.

        Raises:
            ValueError: an unknown or a missing key, or what the constructor refuses.
        """
        valid = [field.name for field in fields(cls)]
        unknown = sorted(str(key) for key in mapping if key not in valid)
        missing = [key for key in ("base_url", "model") if key not in mapping]
        if unknown or missing:
            raise ValueError(f"judge: unknown keys {unknown}, missing keys {missing}; valid keys are {valid}")
        return cls(**{str(key): value for key, value in mapping.items()})

    def api_key(self) -> str:
        """The key from the environment; a word that no server checks where none is needed.

        Raises:
            ValueError: the variable is not set.
        """
        if self.api_key_env is None:
            return "none"
        key = os.environ.get(self.api_key_env)
        if not key:
            raise ValueError(
                f"judge: the environment variable {self.api_key_env} is not set, expected the key for {self.base_url}; "
                "export it where Ray is started, or set judge.api_key_env=null for a server without keys"
            )
        return key


def _require(condition: bool, key: str, got: object, expected: str) -> None:
    if not condition:
        raise ValueError(f"judge.{key}: got {got!r}, expected {expected}")
