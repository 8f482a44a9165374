"""The watch over vLLM's engine: what it reads of verl and vLLM, and the words for the process that died."""

import asyncio
import inspect
import multiprocessing
import os
import signal
import time
from types import SimpleNamespace

import pytest
from verl.workers.rollout.vllm_rollout import vllm_async_server
from vllm.v1.engine.async_llm import AsyncLLM

from verl_axpo.integration import watch


@pytest.mark.parametrize(("how", "words"), [(signal.SIGKILL, "killed by SIGKILL"), (3, "exit status 3")])
def test_a_dead_engine_is_reported_with_process_and_cause(
    monkeypatch: pytest.MonkeyPatch, how: signal.Signals | int, words: str
) -> None:
    """A server whose engine is a separate process, as vLLM's is, and has failed once that process is gone."""
    reports: list[str] = []
    monkeypatch.setattr(watch, "report", reports.append)
    monkeypatch.setattr(watch, "POLL_S", 0.05)
    context = multiprocessing.get_context("fork")
    sleeps = context.Process(target=time.sleep, args=(60,), name="EngineCore_DP0", daemon=True)
    child = (
        sleeps
        if isinstance(how, signal.Signals)
        else context.Process(target=os._exit, args=(how,), name="EngineCore_DP0")
    )

    class Engine:
        @property
        def errored(self) -> bool:
            return not child.is_alive()

    class vLLMHttpServer:  # verl's name
        replica_rank = 2

        async def run_server(self) -> None:
            child.start()
            self.engine = Engine()

    module = SimpleNamespace(vLLMHttpServer=vLLMHttpServer)
    watch.watch_engines(module)  # type: ignore[arg-type]
    asyncio.run(module.vLLMHttpServer().run_server())
    if isinstance(how, signal.Signals):
        time.sleep(0.2)
        assert reports == []
        child.kill()
    deadline = time.monotonic() + 10
    while not reports and time.monotonic() < deadline:
        time.sleep(0.05)
    assert reports == [f"vLLM's engine of replica 2 died: EngineCore_DP0 (pid {child.pid}) {words}"]


def test_verls_server_keeps_its_engine_where_the_watch_looks() -> None:
    source = inspect.getsource(inspect.unwrap(vllm_async_server.vLLMHttpServer.run_server))
    assert "self.engine = engine_client" in source
    assert isinstance(AsyncLLM.errored, property)
    assert inspect.iscoroutinefunction(vllm_async_server.vLLMHttpServer.run_server)


def test_the_watch_is_still_needed() -> None:
    """When verl itself ends a run whose engine died, this test fails and the watch can go."""
    assert "errored" not in inspect.getsource(vllm_async_server)
