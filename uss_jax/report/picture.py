"""Decibels as a picture: perceptually even colours, and PNG."""

import base64
import functools
import io

import numpy as np
from PIL import Image

SHADES = 64
RANGE_DB = 75.0  # from the darkest to the brightest colour


@functools.cache
def palette() -> np.ndarray:
    """Dark indigo over magenta and orange to pale yellow, lightness growing evenly: (shades, 3), 8 bits of sRGB.

    The path lies in OKLCh (Ottosson), and colours that a screen does not have lose chroma until it does.
    """
    share = np.linspace(0, 1, SHADES)
    lightness = 0.13 + 0.84 * share
    chroma = 0.03 + 0.16 * np.sin(np.pi * share**0.85)
    hue = np.radians(282 + 170 * share)
    for _ in range(40):
        linear = _linear_rgb(lightness, chroma * np.cos(hue), chroma * np.sin(hue))
        outside = (linear < 0).any(axis=-1) | (linear > 1).any(axis=-1)
        chroma = np.where(outside, chroma * 0.95, chroma)
    linear = np.clip(linear, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded).astype(np.uint8)


def _linear_rgb(lightness: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """OKLab → linear sRGB: (…,) each → (…, 3)."""
    cones = (
        np.stack(
            [
                lightness + 0.3963377774 * a + 0.2158037573 * b,
                lightness - 0.1055613458 * a - 0.0638541728 * b,
                lightness - 0.0894841775 * a - 1.2914855480 * b,
            ],
            axis=-1,
        )
        ** 3
    )
    to_rgb = [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
    return cones @ np.array(to_rgb).T


def colours(count: int) -> list[str]:
    """This many colours of the palette, evenly spaced, dark first, as CSS writes them."""
    chosen = palette()[np.linspace(0, SHADES - 1, count).astype(int)]
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in chosen.tolist()]


def shades(decibels: np.ndarray, top_db: float) -> np.ndarray:
    """Places in the palette, 8 bits: the last at `top_db` and above, 0 where `RANGE_DB` lower and below."""
    share = 1 + (decibels - top_db) / RANGE_DB
    return np.round(np.clip(share, 0, 1) * (SHADES - 1)).astype(np.uint8)


def png_uri(places: np.ndarray) -> str:
    """Places in the palette, (height, width), as a data URI of a PNG file."""
    image = Image.fromarray(places)
    image.putpalette(palette().tobytes())
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
