"""Renders weakly labelled clips of weather, water, engines, animals and things, from synthetic sounds only.

    python examples/render_surroundings.py --out DATA/surroundings

The folder is laid out as that of `render_instruments.py`, but for its folds: all clips have fold 1, as what is
rendered here tells little of how well a model hears the real sounds.
"""

import numpy as np
from make_yard import to_int16
from render_instruments import SECONDS, recorded, run
from rendering import engines, voices, weather
from rendering.blocks import between, tilted

RECIPES = {
    "rain": (weather.rain, ("Rain",)),
    "waves": (weather.waves, ("Waves, surf", "Ocean")),
    "stream": (weather.stream, ("Stream", "Water")),
    "wind": (weather.wind, ("Wind",)),
    "fire": (weather.fire, ("Fire", "Crackle")),
    "engine": (engines.engine, ("Engine",)),
    "chainsaw": (engines.chainsaw, ("Chainsaw",)),
    "helicopter": (engines.helicopter, ("Helicopter",)),
    "airplane": (engines.airplane, ("Fixed-wing aircraft, airplane", "Aircraft")),
    "boat": (engines.boat, ("Boat, Water vehicle",)),
    "cricket": (voices.cricket, ("Cricket", "Insect")),
    "bee": (voices.bee, ("Bee, wasp, etc.", "Insect")),
    "bird": (voices.bird, ("Bird vocalization, bird call, bird song", "Bird")),
    "clock": (engines.clock, ("Tick-tock", "Clock")),
    "singing": (voices.singing, ("Singing",)),
}


def clip(category: str, number: int, seed: int) -> tuple[np.ndarray, str]:
    """A clip of a category, int16 (samples,), and what is heard."""
    source, place = np.random.default_rng([seed, number, *category.encode()]).spawn(2)
    x = RECIPES[category][0](source, SECONDS)
    nearby = tilted(place, SECONDS, 30, between(place, 200, 8000), place.uniform(10, 40))
    x = recorded(place, x + x.std() * 10 ** (-place.uniform(12, 50) / 20) * nearby)
    return to_int16(x, place.uniform(-12, -1)), category


if __name__ == "__main__":
    run(__doc__, {category: classes for category, (_, classes) in RECIPES.items()}, clip, folds=1)
