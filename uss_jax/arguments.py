"""Types of command-line arguments: a value from its text, or what was expected, for argparse to tell."""

import argparse


def span(text: str) -> tuple[float, float]:
    """Onset and offset in seconds, as 3.2-5."""
    onset, _, offset = text.partition("-")
    try:
        found = float(onset), float(offset)
    except ValueError:
        found = (0.0, 0.0)
    if not 0.0 <= found[0] < found[1] < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected two times in seconds, as 3.2-5")
    return found


def positive(text: str) -> int:
    """A count of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, 1 or more")
    return int(text)


def seconds(text: str) -> float:
    """A time of 0 or more."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0.0 <= found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected seconds, 0 or more")
    return found


def length(text: str) -> float:
    """A time of more than 0."""
    if not (found := seconds(text)):
        raise argparse.ArgumentTypeError(f"{text}: expected more than 0 seconds")
    return found
