"""The benchmark `scenes`: whole recordings with several sounds, whose stems and events are known.

A scene is a JSON file beside its audio: `mixture` and `stems` (name: file) name audio files; each of `events` has
`stem`, AudioSet `labels`, `onset` and `offset` in seconds. `examples/yard.json` is one.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from uss_jax import audio, audioset, files, metrics, model_dir
from uss_jax.evaluation.summary import versions
from uss_jax.separated import Event
from uss_jax.separation import Model


def evaluate_scenes(networks: model_dir.Networks, data: Path) -> dict[str, Any]:
    """Separates each scene by the classes of its stems, and tags it.

    Returns:
      A result as of `summary.summarise`; `per_class` has `scene: stem` as keys, and `events` tells for each event
      whether a class of it was active at some time between its onset and offset.

    Raises:
      ValueError: there is no scene, or one is not as described above.
    """
    found = [path for path in sorted(Path(data).glob("*.json")) if _is_scene(path)]
    if not found:
        raise ValueError(f"{data}: no scenes (JSON files with 'mixture', 'stems' and 'events') here")
    model = Model(networks)
    per_stem: dict[str, dict[str, float]] = {}
    events: list[dict[str, Any]] = []
    for path in found:
        scene = _read(path)
        mixture, rate = audio.read(files.inside(path.parent, scene["mixture"]))
        heard = model.tag(mixture, rate, levels=())
        for stem, file in scene["stems"].items():
            labels = {label: None for event in scene["events"] if event["stem"] == stem for label in event["labels"]}
            truth, _ = audio.read(files.inside(path.parent, file))
            separated = model.separate(mixture, rate, classes=list(labels), together=True)
            estimate = next(iter(separated.stems.values())).audio
            flat = [signal.reshape(-1) for signal in (truth, estimate, mixture)]  # all channels together
            per_stem[f"{path.stem}: {stem}"] = {
                "sdr": float(metrics.sdr(*flat[:2])),
                "sdri": float(metrics.sdr_improvement(*flat)),
                "n": 1,
            }
        for event in scene["events"]:
            events.append(
                {
                    "scene": path.stem,
                    "stem": event["stem"],
                    "onset": event["onset"],
                    "offset": event["offset"],
                    "found": is_heard(event, heard),
                }
            )
    return {
        "benchmark": "scenes",
        "model": networks.config["name"],
        "query": "classes",
        "n": len(per_stem),
        "mean": {
            "sdr": float(np.mean([row["sdr"] for row in per_stem.values()])),
            "sdri": float(np.mean([row["sdri"] for row in per_stem.values()])),
            "events_found": float(np.mean([event["found"] for event in events])),
        },
        "per_class": per_stem,
        "events": events,
        "versions": versions(),
    }


def is_heard(event: dict[str, Any], heard: list[Event]) -> bool:
    """Whether one of the classes of a scene's event is active at some time between its onset and offset."""
    names = {audioset.find_class(label).name for label in event["labels"]}
    return any(
        other.name in names and other.onset_s < event["offset"] and other.offset_s > event["onset"] for other in heard
    )


def _is_scene(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(content, dict) and {"mixture", "stems", "events"} <= set(content)


def _read(path: Path) -> dict[str, Any]:
    """The scene; raises ValueError where an event or a stem lacks what the other needs."""
    scene = json.loads(path.read_text(encoding="utf-8"))
    try:
        labelled = {event["stem"] for event in scene["events"] if event["labels"] and event["onset"] < event["offset"]}
        lacking = set(scene["stems"]) - labelled
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: an event needs stem, labels, onset and offset ({error})") from error
    if lacking or not labelled:
        raise ValueError(f"{path}: no labelled event of the stem {min(lacking, default='')!r}")
    return scene
