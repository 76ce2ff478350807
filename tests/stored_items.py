"""Items to be stored, in a module of their own so that worker processes can import it; run, it stores them."""

import dataclasses
import os
import sys
import time
from pathlib import Path

import numpy as np

from uss_jax import engines, storage


@dataclasses.dataclass(frozen=True)
class Tone:
    """A clip whose samples all are its number; each making of it is noted in a file."""

    number: int
    log: Path
    pause_s: float = 0.0

    @property
    def clip_id(self) -> str:
        return f"tone-{self.number}"

    @property
    def content(self) -> str:
        return str(self.number % 5)

    def record(self) -> storage.Record:
        time.sleep(self.pause_s)
        with self.log.open("a") as file:
            file.write(f"{self.number}\n")
        if self.number % 10 == 7:
            raise ValueError(f"broken: {self.number} is no number for a tone")
        note = "short: by a little" if self.number % 10 == 3 else ""
        samples = np.full(4000 + self.number, self.number, np.int16)
        return storage.Record(self.clip_id, (self.number % 5, 500), samples, note)


@dataclasses.dataclass(frozen=True)
class Fatal:
    """A clip that ends the process that reads it."""

    clip_id: str
    content: str = ""

    def record(self) -> storage.Record:
        os._exit(3)


def tones(log: Path, count: int, pause_s: float = 0.0) -> dict[str, list[Tone]]:
    return {
        "train": [Tone(number, log, pause_s) for number in range(count)],
        "validation": [Tone(number, log, pause_s) for number in range(1000, 1005)],
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    storage.store("tones", tones(folder / "log", 200, pause_s=0.01), folder, engines.Local(int(sys.argv[2])))
