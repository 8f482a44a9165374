"""The reward's settings, `reward.custom_reward_function.reward_kwargs`: mapping -> checks -> frozen dataclasses."""

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeVar, get_args

OnInfraFailure = Literal["mark", "raise"]
_S = TypeVar("_S", bound="_Settings")


class _Settings:
    """What both dataclasses share: reading a mapping, and the words of a refusal."""

    _WHERE: ClassVar[str]

    @classmethod
    def from_mapping(cls: type[_S], mapping: Mapping[str, Any]) -> _S:
        """Parse a mapping.

        Raises:
            ValueError: an unknown or a missing key, or a value that the constructor refuses.
        """
        options = {option.name: option for option in fields(cls)}  # type: ignore[arg-type]  # a dataclass
        required = {name for name, option in options.items() if option.default is option.default_factory is MISSING}
        unknown, missing = sorted(set(map(str, mapping)) - set(options)), sorted(required - set(mapping))
        if unknown or missing:
            problem = "; ".join(
                f"{kind} keys {keys}" for kind, keys in (("missing", missing), ("unknown", unknown)) if keys
            )
            raise ValueError(f"{cls._WHERE}: {problem}; valid keys are {list(options)}")
        return cls(**{str(key): value for key, value in mapping.items()})

    def _require(self, condition: bool, key: str, expected: str) -> None:
        if not condition:
            raise ValueError(f"{self._WHERE}.{key}: got {getattr(self, key)!r}, expected {expected}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig(_Settings):
    """Which server judges, and the limits of requests to it. Limits are those of one `Judge`, that is of one process.

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
        max_concurrency: verdicts that are waited for at the same time.
        requests_per_minute: None for no limit but `max_concurrency`.

    Raises:
        ValueError: a value without meaning.
    """

    _WHERE = "judge"
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
        self._require(self.base_url.startswith(("http://", "https://")), "base_url", "http://host:port/v1")
        self._require(bool(self.model), "model", "the name that the server knows")
        for key in ("max_tokens", "timeout_s", "attempts", "max_concurrency"):
            self._require(getattr(self, key) > 0, key, "a number above 0")
        rate = self.requests_per_minute
        self._require(rate is None or rate > 0, "requests_per_minute", "a number above 0, or null for no limit")

    def api_key(self) -> str:
        """The key from the environment; if no key is needed, a word that no server checks.

        Raises:
            ValueError: the variable is not set.
        """
        key = "none" if self.api_key_env is None else os.environ.get(self.api_key_env)
        if not key:
            raise ValueError(
                f"judge: the environment variable {self.api_key_env} is not set; export it with the key of "
                f"{self.base_url} where Ray is started, or set judge.api_key_env=null for a server without keys"
            )
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardConfig(_Settings):
    """How answers are graded and what a grade earns.

    Attributes:
        answer_types: further `data_source: answer_type` entries; they win over the built-in table.
        judge: the server for `judge` answers; None while no row asks for one.
        on_infra_failure: what a reward that could not be computed does. `mark` returns `infra_failure: 1.0`, which
            AXPO's rollouts read; `raise` fails the question, which is what a run without AXPO's hook needs.
        tool_bonus: added to the reward of a rollout that used a tool, right or wrong (0 is off).
        tool_penalty: subtracted from it (likewise).

    Raises:
        ValueError: a value, or a combination of values, without meaning.
    """

    _WHERE = "reward_kwargs"
    answer_types: Mapping[str, str] = field(default_factory=dict)
    judge: JudgeConfig | None = None
    on_infra_failure: OnInfraFailure = "mark"
    tool_bonus: float = 0.0
    tool_penalty: float = 0.0

    def __post_init__(self) -> None:
        names = list(get_args(OnInfraFailure))
        self._require(self.on_infra_failure in names, "on_infra_failure", f"one of {names}")
        for key in ("tool_bonus", "tool_penalty"):
            self._require(getattr(self, key) >= 0, key, "a number >= 0 (0 is off)")
        both = self.tool_bonus and self.tool_penalty
        self._require(not both, "tool_bonus", f"0 next to tool_penalty={self.tool_penalty}: choose one")
        if isinstance(self.judge, Mapping):
            object.__setattr__(self, "judge", JudgeConfig.from_mapping(self.judge))
