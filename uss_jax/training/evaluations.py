"""Which steps of a run were evaluated, and which was the best: read from its `evaluations.jsonl`."""

import json
import math
from pathlib import Path

from uss_jax.training.metrics import kept_lines


class Evaluations:
    """The evaluations of a run up to a step, and those that follow; the same on every host."""

    def __init__(self, workdir: Path, first_step: int, score: str) -> None:
        """Args: workdir; first_step: where the run begins or resumes; score: name of what counts, the more the better.

        Raises:
          ValueError: the file holds something else.
        """
        path = workdir / "evaluations.jsonl"
        self._score = score
        self._scores: dict[int, float] = {}
        for line in kept_lines(path, first_step):
            found = json.loads(line)
            if not isinstance(found.get(score), float):
                raise ValueError(f"{path}: a line has no {score!r}: {line.strip()[:80]!r}")
            self._scores[int(found["step"])] = found[score]

    def add(self, step: int, scores: dict[str, float]) -> None:
        """Notes an evaluation. Raises FloatingPointError where its score is not a number."""
        if not math.isfinite(scores[self._score]):
            raise FloatingPointError(f"{self._score} of the evaluation is {scores[self._score]} after step {step}")
        self._scores[step] = scores[self._score]

    def has(self, step: int) -> bool:
        """Whether the state after this step was evaluated."""
        return step in self._scores

    @property
    def best_step(self) -> int | None:
        """The step with the highest score, the first of equal ones; None where none was evaluated."""
        return max(sorted(self._scores), key=self._scores.__getitem__, default=None)

    def ranked(self) -> list[int]:
        """The evaluated steps, the best first."""
        return sorted(self._scores, key=lambda step: (-self._scores[step], step))
