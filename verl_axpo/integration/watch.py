"""The driver's watch over its run: a process that died -> words that name it -> the end of the run.

    every WATCH_S: Ray's own processes, deaths that were reported, Ray's table of actors -> the last line
    in a server: AsyncLLM.errored -> which child died, with its exit code -> `report` to the driver

verl polls a queue that a dead worker never fills, sends weights to an engine that is not there, or goes on with what
the others have done. So the driver, which waits for the trainer alone, looks for itself. It also ends the run with the
process that started it: a closed terminal or a killed wrapper leaves no training running. `nohup` keeps it.
"""

import atexit
import functools
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any

import ray
import ray._private.state
import ray._private.worker
from ray.core.generated.common_pb2 import ActorDeathCause, ActorDiedErrorContext
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

logger = logging.getLogger(__name__)

WATCH_S = 2.0
GRACE_S = 1.0  # a run that ends by itself takes its processes with it, and needs no message
LOOK_S = 5.0  # Ray's table of actors may be that much later than an error
POLL_S = 1.0  # of an engine, in its server's process
STOP_S = 30.0  # for the driver to end; then it is made to
END_SIGNAL = signal.SIGUSR2
RAY_PROCESSES = ("raylet", "gcs_server")  # without which no actor lives; a dashboard is not missed
ON_ITS_OWN = (ActorDiedErrorContext.WORKER_DIED, ActorDiedErrorContext.NODE_DIED)  # not: killed by verl or its owner


class Watch:
    """The watch of one driver; `start` it in the main thread, before Ray.

    Args:
        force: ends what is left of the run, where the driver does not end in time by itself.
    """

    def __init__(self, force: Callable[[], None]) -> None:
        self.cause: str | None = None
        self._force, self._parent, self._ending = force, os.getppid(), threading.Event()

    def start(self) -> None:
        """Watch until the process exits."""
        # Ray waits in C++, and of a handler's exceptions it lets only KeyboardInterrupt through
        signal.signal(END_SIGNAL, signal.default_int_handler)
        follows = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # ignored under nohup
        if follows:
            signal.signal(signal.SIGHUP, signal.default_int_handler)
        sys.excepthook = self._last_words
        atexit.register(self._ending.set)
        threading.Thread(target=self._watch, args=(follows,), daemon=True, name="axpo-watch").start()

    def _watch(self, follows: bool) -> None:
        while not self._ending.wait(WATCH_S):
            if follows and os.getppid() != self._parent:
                return self._end("the process that started it is gone; under nohup or tmux it would go on")
            if (cause := find_death()) and not self._ending.wait(GRACE_S):
                return self._end(cause)

    def _end(self, cause: str) -> None:
        self.cause = cause
        signal.pthread_kill(threading.main_thread().ident or 0, END_SIGNAL)
        time.sleep(STOP_S)
        self._force()
        self.say_cause()
        os._exit(1)

    def _last_words(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Find the cause while Ray can still be asked, whichever process noticed the death first."""
        if self.cause is None:
            sys.__excepthook__(kind, error, trace)
        deadline = time.monotonic() + (LOOK_S if issubclass(kind, ray.exceptions.RayError) else 0)
        while (cause := self.cause or find_death()) is None and time.monotonic() < deadline:
            time.sleep(GRACE_S / 2)
        self.cause = cause

    def say_cause(self) -> None:
        """The last line, on the screen or wherever the driver's errors go: after all that Ray says while it stops."""
        if self.cause:
            sys.stdout.flush()
            print(f"axpo: the run ended because {self.cause}", file=sys.stderr, flush=True)


def find_death() -> str | None:
    """The process of this run that died first, in words; None while none has, or Ray is not there to ask."""
    if not ray.is_initialized():
        return None
    try:
        return _dead_ray_process() or _reported() or _dead_actor()
    except Exception as error:  # Ray goes down itself: asked again, and told by `_dead_ray_process`
        logger.debug("Ray does not say which processes live: %s", error)
        return None


def report(cause: str) -> None:
    """Tell the driver of a death that Ray does not see; the first report counts. In any process of the run."""
    _internal_kv_put(_key(), cause.encode(), overwrite=False)


def exit_words(code: int | None) -> str:
    """What an exit code says: a signal's name where there was one."""
    return f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit status {code}"


def _key() -> str:
    return f"verl_axpo_death_{ray.get_runtime_context().get_job_id()}"  # a cluster may have several jobs


def _reported() -> str | None:
    cause = _internal_kv_get(_key())
    return cause.decode() if cause else None


def _dead_ray_process() -> str | None:
    node = ray._private.worker._global_node  # None on a cluster that was there before the run
    for kind, process in node.dead_processes() if node is not None else ():
        if kind in RAY_PROCESSES:
            return f"Ray's {kind} (pid {process.pid}) died: {exit_words(process.returncode)}"
    return None


def _dead_actor() -> str | None:
    job = ray.get_runtime_context().get_job_id()
    dead = [
        (actor["EndTime"], _words(actor, detail))
        for actor in ray._private.state.actors(actor_state_name="DEAD").values()
        if actor["JobID"] == job and (detail := _died_on_its_own(actor["DeathCause"]))
    ]
    return min(dead)[1] if dead else None


def _died_on_its_own(cause: ActorDeathCause) -> str | None:
    """Ray's words for a death that nobody ordered."""
    if cause.HasField("oom_context"):
        return str(cause.oom_context.error_message)
    died = cause.actor_died_error_context
    return str(died.error_message) if cause.HasField("actor_died_error_context") and died.reason in ON_ITS_OWN else None


def _words(actor: dict[str, Any], detail: str) -> str:
    kind = actor["ActorClassName"].rpartition(".")[2]  # of a class made in a function, its own name
    name = f" {actor['Name']}" if actor["Name"] else ""
    cause = " ".join(detail.split()).partition(" Some common causes")[0]
    return f"{kind}{name} (pid {actor['Pid']}) died: {cause}"


# ------------------------------ in a vLLM server's process ------------------------------


def watch_engines(module: ModuleType) -> None:
    """Watch the engine of every server from its start on: Ray sees the server, but not the engines that work for it.

    Patch, verl 0.9 (`vllm_async_server`): a dead engine fails the rollouts one by one, and a weight update waits for it
    for ever. tests/contract/test_engine_watch.py tells when it can go.
    """
    original = module.vLLMHttpServer.run_server

    @functools.wraps(original)
    async def run_server(self: Any, *args: Any, **kwargs: Any) -> None:
        await original(self, *args, **kwargs)
        watch = functools.partial(_watch_engine, self.engine, self.replica_rank, multiprocessing.active_children())
        threading.Thread(target=watch, daemon=True, name="axpo-engine-watch").start()

    module.vLLMHttpServer.run_server = run_server


def _watch_engine(engine: Any, replica: int, children: list[multiprocessing.process.BaseProcess]) -> None:
    while not engine.errored:
        time.sleep(POLL_S)
    report(death_of(replica, children))


def death_of(replica: int, children: list[multiprocessing.process.BaseProcess]) -> str:
    """Words for the end of a replica's engine."""
    dead = [child for child in children if child.exitcode is not None]
    which = ", ".join(f"{child.name} (pid {child.pid}) {exit_words(child.exitcode)}" for child in dead)
    return f"vLLM's engine of replica {replica} died: {which or 'an error of its own, which is in the log'}"
