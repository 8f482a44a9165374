"""What a running evaluation shows: finished rollouts -> one bar with rate, estimate and the score so far.

Without a terminal it prints a line a minute instead.
"""

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from verl_axpo.core.types import Status
from verl_axpo.eval.plan import Plan
from verl_axpo.eval.types import RolloutRecord, Score

LINE_EVERY_S = 60.0
RATE_OVER_S = 300.0  # long rollouts finish in bursts: a shorter window would make the estimate jump


class Live:
    """Is told by the runner what is finished; a context, so that the terminal is left as it was."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.sampled = self.failed = self.tokens = self.correct = self.judged = 0
        words, left = TextColumn("{task.description}"), TimeRemainingColumn()
        columns = ("rollouts", BarColumn(), MofNCompleteColumn(), words, TimeElapsedColumn(), "left", left)
        self._bar = Progress(
            *columns, console=console, disable=not console.is_terminal, speed_estimate_period=RATE_OVER_S
        )
        self._task = self._bar.add_task("", total=None)
        self._began = self._told = time.monotonic()

    def __enter__(self) -> "Live":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def planned(self, plan: Plan) -> None:
        """Says what an earlier run has left to do."""
        self._began, done = time.monotonic(), plan.total - len(plan.sample)
        self._bar.update(self._task, total=plan.total, completed=done)
        unscored = f", {len(plan.score)} to score again" if plan.score else ""
        self.console.print(f"{plan.total} rollouts: {done} on disk, {len(plan.sample)} to sample{unscored}")

    def rolled_out(self, record: RolloutRecord) -> None:
        self.sampled += 1
        self.failed += record.status is Status.INFRA_FAILURE
        self.tokens += sum(turn.completion_tokens for turn in record.turns)
        self._bar.update(self._task, advance=1, description=self._words())
        if not self.console.is_terminal and time.monotonic() - self._told > LINE_EVERY_S:
            self._told, task = time.monotonic(), self._bar.tasks[0]
            self.console.print(f"{task.completed:.0f}/{task.total:.0f} rollouts, {self._words()}")

    def scored(self, score: Score) -> None:
        self.judged += score.correct is not None
        self.correct += score.correct is True
        self._bar.update(self._task, description=self._words())

    def judge_lost(self, failures: int, reason: str) -> None:
        """Says that it goes on without the judge, and what the numbers are meanwhile."""
        self.console.print(
            f"the judge failed {failures} times in a row, the last with: {escape(reason)}. It is not asked any more in "
            "this run: rules go on alone, and what they do not call right has no verdict. Mend the judge and run the "
            "same command again: it asks about these answers, without sampling",
            soft_wrap=True,
        )

    def _words(self) -> str:
        """Rates and results of this run."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        words = [f"{60 * self.sampled / seconds:.1f}/min", f"{self.tokens / seconds:.0f} tokens/s"]
        if self.judged:
            words.append(f"{100 * self.correct / self.judged:.1f} % correct")
        if self.failed:
            words.append(f"{self.failed} failed")
        return ", ".join(words)
