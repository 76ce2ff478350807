"""What was found, as the ontology has it: nodes below their parents."""

from collections.abc import Mapping, Sequence
from typing import Any

from uss_jax import audioset
from uss_jax.separated import Event
from uss_jax.targets import Target

MOST_BARS = 1500  # of one sound; a page is not that many pixels wide


def in_tree(target: Target) -> bool:
    """Whether a target was asked for by level, and so has a place in the tree."""
    return target.level is not None and target.mid in audioset.nodes()


def tree(track_of: Mapping[str, int]) -> list[dict[str, Any]]:
    """Nodes with their children, as nested dictionaries: `name`, `level`, `track` (None for a heading), `children`.

    Ancestors that were not separated stand as headings.

    Args:
      track_of: the track of each node that was separated, by machine id.
    """
    nodes = audioset.nodes()
    children: dict[str | None, list[dict[str, Any]]] = {None: []}
    for found in track_of:
        mid: str | None = found
        while mid is not None and mid not in children:
            children[mid] = []
            mid = nodes[mid].parent
    for mid, node in nodes.items():  # depth first, which is the order on the page
        if mid in children:
            children[node.parent].append(
                {"name": node.name, "level": node.level, "track": track_of.get(mid), "children": children[mid]}
            )
    return children[None]


def activity(events: Sequence[Event], seconds: float) -> dict[str, Any]:
    """When one sound is active: `peak` probability (None if never), `activeSeconds`, and `bars` to be drawn.

    Args:
      events: of the sound.
      seconds: of the recording.
    """
    return {
        "peak": max((event.peak_probability for event in events), default=None),
        "activeSeconds": sum(event.offset_s - event.onset_s for event in events),
        "bars": bars(sorted(events, key=lambda event: event.onset_s), seconds),
    }


def bars(events: Sequence[Event], seconds: float) -> list[list[float]]:
    """Events to be drawn: [onset, offset, mean, peak probability, how many events]; those too close are one.

    Args:
      events: of one sound, in their order in time.
      seconds: of the recording.
    """
    groups: list[list[Event]] = []
    for event in events:
        if groups and event.onset_s - groups[-1][-1].offset_s < seconds / MOST_BARS:
            groups[-1].append(event)
        else:
            groups.append([event])
    return [_bar(group) for group in groups]


def _bar(group: Sequence[Event]) -> list[float]:
    lengths = [event.offset_s - event.onset_s for event in group]
    mean = sum(event.mean_probability * length for event, length in zip(group, lengths, strict=True))
    mean /= max(sum(lengths), 1e-9)
    peak = max(event.peak_probability for event in group)
    return [*(round(number, 3) for number in (group[0].onset_s, group[-1].offset_s, mean, peak)), len(group)]
