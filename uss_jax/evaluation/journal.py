"""A run's journal: a line for every item that is done, so that an interrupted run goes on where it stopped."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uss_jax import files


class Journal:
    """JSON lines: what the run depends on, then its list of items, then `{"item": its place in the list, …}` for each.

    Attributes:
      listed: `list`, the digest of the items, and `left_out`, by name, once they are known.
      rows: what is done, by place in the list.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], overwrite: bool = False) -> None:
        """Opens a journal to go on with; where there is none, `begin` makes it.

        Args:
          path: of the file.
          settings: what the run depends on, of JSON's types.
          overwrite: begin anew, whatever is there.

        Raises:
          ValueError: it is the journal of a run with other settings of which something is done, or no journal.
        """
        self.path = path
        self.listed: dict[str, Any] | None = None
        self.rows: dict[int, dict[str, Any]] = {}
        self._settings = settings
        lines, length = ([], 0) if overwrite else _whole_lines(path)
        if lines and not (other := _other(lines[0]["settings"], settings)):
            self.listed, self.rows = _parts(lines)
            os.truncate(path, length)  # a line that was cut off is done again
        elif len(lines) > 2:
            raise ValueError(
                f"{path}: of a run with another {other}; choose another --out, or begin anew (--overwrite)"
            )

    def begin(self, digest: str, left_out: Mapping[str, str]) -> None:
        """Writes a new journal, of a run with these items."""
        self.listed = {"list": digest, "left_out": dict(left_out)}
        files.write_text(self.path, f"{json.dumps({'settings': self._settings})}\n{json.dumps(self.listed)}\n")

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Adds items that are done."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        self.rows |= {row["item"]: row for row in rows}


def read(path: Path) -> tuple[str, dict[int, dict[str, Any]]]:
    """The digest of the list and the rows of a journal. Raises ValueError where it is missing or no journal."""
    lines, _ = _whole_lines(path)
    listed, rows = _parts(lines)
    if listed is None:
        raise ValueError(f"{path}: " + ("not a journal of eval.py" if path.exists() else "no such file"))
    return listed["list"], rows


def _parts(lines: list[dict[str, Any]]) -> tuple[dict[str, Any] | None, dict[int, dict[str, Any]]]:
    """List and rows of a journal's lines."""
    listed = lines[1] if len(lines) > 1 else None
    return listed, {row["item"]: row for row in lines[2:]}


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The complete lines of a journal, and how many bytes they are; none where there is no file."""
    if not path.is_file():
        return [], 0
    content = path.read_bytes()
    length = content.rfind(b"\n") + 1
    try:
        lines = [json.loads(line) for line in content[:length].splitlines()]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a journal of eval.py ({type(error).__name__})") from error
    checks = (_is_head, _is_list)
    for number, line in enumerate(lines):
        if not isinstance(line, dict) or not (checks[number] if number < len(checks) else _is_row)(line):
            raise ValueError(f"{path}: not a journal of eval.py (line {number + 1})")
    return lines, length


def _is_head(line: dict[str, Any]) -> bool:
    return isinstance(line.get("settings"), dict)


def _is_list(line: dict[str, Any]) -> bool:
    names = line.get("left_out")
    texts = [line.get("list"), *(names.values() if isinstance(names, dict) else [None])]
    return all(isinstance(text, str) for text in texts)


def _is_row(line: dict[str, Any]) -> bool:
    scores = [value for name, value in line.items() if name not in ("item", "left_out", "silent_estimate")]
    return (
        type(line.get("item")) is int
        and isinstance(line.get("left_out", ""), str)
        and all(isinstance(values, dict) and values for values in scores)
        and all(type(x) in (int, float) and math.isfinite(x) for values in scores for x in values.values())
    )


def _other(earlier: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The first setting that differs, and its values; a setting that an earlier version had not is None."""
    for name in dict.fromkeys((*settings, *earlier)):
        if earlier.get(name) != settings.get(name):
            return f"{name} ({earlier.get(name)!r}, now {settings.get(name)!r})"
    return ""
