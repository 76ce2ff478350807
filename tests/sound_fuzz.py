"""Small hostile sound files: good ones of every kind, damaged ones, odd headers, texts, playlists, and odd names."""

import dataclasses
import functools
import io
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

RATES_HZ = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000)
MAX_BYTES = 200_000
HAS_FFMPEG = shutil.which("ffmpeg") is not None


@dataclasses.dataclass(frozen=True)
class Kind:
    """A container and coding of libsndfile, with what it holds."""

    format: str
    subtype: str
    suffix: str
    channels: int = 8
    rates_hz: tuple[int, ...] = RATES_HZ
    width: int = 2  # bytes of a sample, at most
    whole_blocks: bool = False  # so that it may come back longer


MPEG_HZ = tuple(rate for rate in RATES_HZ if rate <= 48_000)
KINDS = (
    Kind("WAV", "PCM_U8", ".wav"),
    Kind("WAV", "PCM_16", ".wav"),
    Kind("WAV", "PCM_24", ".wav", width=3),
    Kind("WAV", "PCM_32", ".wav", width=4),
    Kind("WAV", "FLOAT", ".wav", width=4),
    Kind("WAV", "DOUBLE", ".wav", width=8),
    Kind("WAV", "ULAW", ".wav"),
    Kind("WAV", "IMA_ADPCM", ".wav", channels=2, whole_blocks=True),
    Kind("WAV", "MS_ADPCM", ".wav", channels=2, whole_blocks=True),
    Kind("WAV", "GSM610", ".wav", channels=1, whole_blocks=True),
    Kind("WAVEX", "PCM_24", ".wav", width=3),
    Kind("RF64", "FLOAT", ".wav", width=4),
    Kind("W64", "PCM_16", ".w64"),
    Kind("FLAC", "PCM_16", ".flac"),
    Kind("FLAC", "PCM_24", ".flac", width=4),
    Kind("OGG", "VORBIS", ".ogg"),
    Kind("OGG", "OPUS", ".opus", rates_hz=(8_000, 16_000, 24_000, 48_000)),
    Kind("MP3", "MPEG_LAYER_III", ".mp3", channels=2, rates_hz=MPEG_HZ, whole_blocks=True),
    Kind("AIFF", "PCM_16", ".aiff"),
    Kind("AIFF", "FLOAT", ".aif", width=4),
    Kind("AU", "PCM_16", ".au"),
    Kind("AU", "G721_32", ".au", channels=1, whole_blocks=True),
    Kind("CAF", "PCM_24", ".caf", width=3),
    Kind("CAF", "ALAC_16", ".caf", width=4),
    Kind("NIST", "PCM_16", ".sph"),
    Kind("VOC", "PCM_16", ".voc", channels=2),
    Kind("PAF", "PCM_16", ".paf", whole_blocks=True),
    Kind("IRCAM", "PCM_16", ".sf"),
    Kind("PVF", "PCM_16", ".pvf"),
    Kind("AVR", "PCM_16", ".avr", channels=2),
    Kind("MAT5", "FLOAT", ".mat", width=4),
)
FFMPEG_KINDS = {  # what ffmpeg alone reads: suffix, options
    ".m4a": "-c:a aac -b:a 48k",
    ".mp4": "-f lavfi -i testsrc=d=0.2:s=32x32 -c:v mpeg4 -c:a aac -b:a 48k",
    ".aac": "-c:a aac -b:a 48k",
    ".webm": "-c:a libopus",
    ".mkv": "-c:a flac",
    ".wma": "-c:a wmav2",
    ".wv": "-c:a wavpack",
    ".avi": "-c:a pcm_s16le",
    ".ts": "-c:a mp2 -ar 44100 -f mpegts",
}
NAMES = (
    "{n}{s}",
    "two words {n}{s}",
    "quote\"s 'and' `more` {n}{s}",
    "line\nbreak\r\n{n}{s}",
    "tab\tbell\a{n}{s}",
    "Größe 音 🎵 {n}{s}",
    "e\u0301 \u202e {n}{s}",
    os.fsdecode(b"\xff\xfe no UTF-8 ") + "{n}{s}",
    "-{n}{s}",
    "-i {n}{s}",
    "--help{n}{s}",
    "..{n}{s}",
    "{n}..{s}..",
    "{n}",
    "$(touch {n}){s}",
    "%d%s{n}%03d{s}",
    "http:{n}{s}",
    "concat:{n}|{n}{s}",
    "file:{n}{s}",
    "a:b;c&d|e<f>g*?[{n}]{s}",
    "\\{n}\\{s}",
    "x" * 200 + "{n}{s}",
    "{n}{s}.wav",
    "{n}.mp4",
    "{n}.raw",
    "{n}.txt",
)
TEXTS = (
    "this is no recording\n" * 20,
    "\n",
    "RIFF",
    "{}",
    "<html><body>404 Not Found</body></html>",
    "#EXTM3U\n#EXTINF:2,\n{secret}\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{secret}\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:2,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nconcat:{secret}|{secret}\n#EXT-X-ENDLIST\n",
    "ffconcat version 1.0\nfile '{secret}'\n",
    "ffconcat version 1.0\nfile secret.wav\n",
    "ffconcat version 1.0\nfile 'http://127.0.0.1:9/a.wav'\nduration 2\n",
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "[playlist]\nFile1={secret}\nLength1=2\nNumberOfEntries=1\nVersion=2\n",
    '<?xml version="1.0"?><MPD><Period><AdaptationSet><BaseURL>{secret}</BaseURL></AdaptationSet></Period></MPD>',
    '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file://{secret}"/></svg>',
    "-SE\nbase: 200+10/50 300+4/40\nNOW base\n",  # a program of SBaGen, of which ffmpeg would make sound
    "TXDM\nrtsp://127.0.0.1:9/x\n",
    "[Script Info]\nTitle: subtitles\n\n[Events]\nDialogue: 0,0:00:00.00,0:00:02.00,Default,,0,0,0,,hello\n",
    "1\n00:00:00,000 --> 00:00:02,000\nhello\n",
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A file to try.

    Attributes:
      name: of the file; unlike that of every other case of a run.
      what: a word on what it is.
      content: its bytes; `{secret}` stands for the path of a good sound file beside it, secret.wav.
      readable: whether it must be read, or (False) refused; None: either.
      shape: (frames, channels) that it has, if known.
      sample_rate_hz: its rate, if known.
    """

    name: str
    what: str
    content: bytes
    readable: bool | None = None
    shape: tuple[int, int] | None = None
    sample_rate_hz: int | None = None

    def write(self, folder: Path) -> Path:
        """Writes it there."""
        path = folder / self.name
        content = self.content
        if b"secret" in content:
            secret = folder / "secret.wav"
            soundfile.write(secret, np.full(1000, 0.5), 8_000)
            content = content.replace(b"{secret}", os.fsencode(secret.absolute()))
        path.write_bytes(content)
        return path


def cases(count: int, seed: int = 0) -> Iterator[Case]:
    """Makes so many cases, the same for the same seed (but for the serial numbers and dates that libsndfile writes)."""
    rng = np.random.default_rng(seed)
    makers, weights = zip(*_MAKERS, strict=True)
    shares = np.array(weights) / sum(weights)
    for number in range(count):
        case, suffix = makers[rng.choice(len(makers), p=shares)](rng)
        pattern = NAMES[0] if rng.random() < 0.3 else str(rng.choice(NAMES))
        # Not by str.format, for braces may stand in names.
        yield dataclasses.replace(case, name=pattern.replace("{n}", f"{number:05d}").replace("{s}", suffix))


Made = tuple[Case, str]


def _signal(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[str, np.ndarray]:
    noise = rng.uniform(-1, 1, shape)
    kinds = {
        "noise": noise,
        "quiet": 1e-4 * noise,
        "sine": np.sin(0.05 * np.arange(shape[0]))[:, None] * np.ones(shape[1]),
        "clipped": np.clip(8 * noise, -1, 1),
        "silent": 0 * noise,
        "constant": np.full(shape, 0.7),
        "denormal": 1e-40 * noise,
        "impulse": np.where(np.arange(shape[0])[:, None] == shape[0] // 2, 1.0, 0.0) * np.ones(shape[1]),
    }
    name = str(rng.choice(list(kinds)))
    return name, kinds[name].astype(np.float32)


def _encode(kind: Kind, samples: np.ndarray, rate_hz: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=kind.format, subtype=kind.subtype)
    return file.getvalue()


def _good(rng: np.random.Generator, kinds: tuple[Kind, ...] = KINDS) -> Made:
    kind = kinds[rng.integers(len(kinds))]
    channels = int(rng.integers(1, kind.channels + 1))
    rate_hz = int(rng.choice(kind.rates_hz))
    longest = min(20_000, (MAX_BYTES - 10_000) // (channels * kind.width))
    frames = int(rng.choice([1, 2, 3, int(rng.integers(1, 200)), *rng.integers(1, longest + 1, 4)]))
    what, samples = _signal(rng, (frames, channels))
    return (
        Case(
            "",
            f"{kind.format} {kind.subtype} {what} {samples.shape}",
            _encode(kind, samples, rate_hz),
            True,
            None if kind.whole_blocks else samples.shape,
            rate_hz,
        ),
        kind.suffix,
    )


@functools.cache
def _by_ffmpeg(suffix: str, rate_hz: int, channels: int, frames: int) -> bytes:
    sound = f"aevalsrc=exprs={'|'.join(['sin(2000*t)'] * channels)}:s={rate_hz}:d={frames / rate_hz}"
    command = ["ffmpeg", "-v", "error", "-nostdin", "-f", "lavfi", "-i", sound, *FFMPEG_KINDS[suffix].split()]
    form = {".m4a": "ipod", ".mkv": "matroska", ".aac": "adts", ".wma": "asf", ".ts": "mpegts"}.get(suffix, suffix[1:])
    folder = Path(os.environ.get("TMPDIR", "/tmp"))  # mp4 cannot be written into a pipe
    path = folder / f"sound-fuzz-{os.getpid()}{suffix}"
    try:
        subprocess.run([*command, "-fflags", "+bitexact", "-f", form, "-y", path], check=True)
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


def _good_for_ffmpeg(rng: np.random.Generator) -> Made:
    suffix = str(rng.choice(list(FFMPEG_KINDS)))
    channels = int(rng.integers(1, 3))
    content = _by_ffmpeg(suffix, 44_100, channels, int(rng.choice([3_000, 12_000])))
    return Case("", f"{suffix} by ffmpeg", content, HAS_FFMPEG, None, None), suffix


def _any_good(rng: np.random.Generator) -> Made:
    return _good_for_ffmpeg(rng) if HAS_FFMPEG and rng.random() < 0.1 else _good(rng)


def _truncated(rng: np.random.Generator) -> Made:
    case, suffix = _any_good(rng)
    size = int(rng.choice([rng.integers(1, 200), rng.integers(1, len(case.content) + 1)]))
    return Case("", f"cut to {size}: {case.what}", case.content[:size]), suffix


def _flipped(rng: np.random.Generator) -> Made:
    case, suffix = _any_good(rng)
    content = np.frombuffer(case.content, np.uint8).copy()
    region = int(rng.choice([min(120, len(content)), len(content)]))  # the header, or anywhere
    places = rng.integers(0, region, int(rng.choice([1, 3, 30])))
    content[places] ^= (1 << rng.integers(0, 8, len(places))).astype(np.uint8)
    return Case("", f"{len(places)} bits of the first {region} flipped: {case.what}", content.tobytes()), suffix


def _glued(rng: np.random.Generator) -> Made:
    (one, suffix), (two, _) = _any_good(rng), _any_good(rng)
    cut = int(rng.integers(0, len(one.content)))
    return Case("", f"{one.what} + {two.what}", (one.content[:cut] + two.content)[:MAX_BYTES]), suffix


def _wrong_extension(rng: np.random.Generator) -> Made:
    case, _ = _any_good(rng)
    others = [
        ".wav",
        ".flac",
        ".mp3",
        ".ogg",
        ".mp4",
        ".raw",
        ".txt",
        ".jpg",
        ".m3u8",
        ".sd2",
        ".gsm",
        ".vox",
        ".au",
        "",
    ]
    return dataclasses.replace(case, what=f"misnamed: {case.what}"), str(rng.choice(others))


def _not_finite(rng: np.random.Generator) -> Made:
    samples = rng.uniform(-1, 1, (int(rng.integers(1, 5_000)), int(rng.integers(1, 5)))).astype(np.float32)
    value = float(rng.choice([np.nan, np.inf, -np.inf]))
    samples[tuple(rng.integers(0, samples.shape))] = value
    kind = [kind for kind in KINDS if kind.subtype in ("FLOAT", "DOUBLE")][rng.integers(6 - 1)]
    return Case("", f"{kind.format} with {value}", _encode(kind, samples, 32_000), False), kind.suffix


def _wav_header(rng: np.random.Generator) -> Made:
    odd = [0, 1, 2, 3, 7, 8, 65, 1_024, 65_535]
    huge = [0, 1, 40, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFF0, int(rng.integers(2**32))]
    body = rng.integers(0, 256, int(rng.integers(0, 3_000)), dtype=np.uint8).tobytes()
    fields = {"tag": 1, "channels": 2, "rate": 44_100, "bytes": 176_400, "block": 4, "bits": 16}
    sizes = {"riff": 36 + len(body), "fmt": 16, "data": len(body)}
    for name in rng.choice([*fields, *sizes], int(rng.integers(1, 4)), replace=False):
        if name in ("rate", "bytes", "riff", "fmt", "data"):
            (fields if name in fields else sizes)[str(name)] = int(rng.choice(huge))
        else:
            fields[str(name)] = int(rng.choice(odd))
    content = struct.pack("<4sI4s4sI", b"RIFF", sizes["riff"], b"WAVE", b"fmt ", sizes["fmt"])
    content += struct.pack("<HHIIHH", *fields.values()) + struct.pack("<4sI", b"data", sizes["data"]) + body
    refused = fields["channels"] == 0 or not body
    return Case("", f"WAV header {fields} {sizes}", content, False if refused else None), ".wav"


def _other_header(rng: np.random.Generator) -> Made:
    body = rng.integers(0, 256, int(rng.integers(1, 3_000)), dtype=np.uint8).tobytes()
    huge = [0, 1, 24, 0x7FFFFFFF, 0xFFFFFFFF, int(rng.integers(2**32))]
    size, rate, channels = (int(rng.choice(huge)) for _ in range(3))
    flac = bytearray(_encode(KINDS[13], rng.uniform(-1, 1, (500, 2)), 44_100))
    flac[18:26] = rng.integers(0, 256, 8, dtype=np.uint8).tobytes()  # rate, channels, bits and length
    headers = {
        ".au": struct.pack(">4s5I", b".snd", 24, size, int(rng.integers(0, 30)), rate, channels) + body,
        ".aiff": struct.pack(">4sI4s4sIHIH10s", b"FORM", size, b"AIFF", b"COMM", 18, 0, rate, 16, body[:10])
        + struct.pack(">4sIII", b"SSND", len(body) + 8, 0, 0)
        + body,
        ".caf": struct.pack(">4sHH4sqd4s5I", b"caff", 1, 0, b"desc", 32, float(rate), b"lpcm", 0, 4, 1, channels, 16)
        + struct.pack(">4sqI", b"data", -1, 0)
        + body,
        ".flac": bytes(flac),
        ".mp3": b"ID3\x04\x00\x00" + struct.pack(">I", size & 0x7F7F7F7F) + body,
        ".m4a": struct.pack(">I4s4sI4s", 20, b"ftyp", b"M4A ", 0, b"isom") + struct.pack(">I4s", size, b"moov") + body,
        ".ogg": b"OggS\x00\x02" + bytes(20) + b"\x01\x1e\x01vorbis" + bytes(4) + bytes([channels & 255]) + body[:17],
        ".sph": b"NIST_1A\n   1024\nchannel_count -i 0\nsample_rate -i 0\nend_head\n".ljust(1024, b" ") + body,
        ".voc": b"Creative Voice File\x1a\x1a\x00\x0a\x01\x29\x11\x09\xff\xff\xff" + body,
        ".w64": b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00" + b"\xff" * 8 + body,
        ".mat": b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + body,
    }
    suffix = str(rng.choice(list(headers)))
    return Case("", f"header of {suffix}", headers[suffix]), suffix


def _random(rng: np.random.Generator) -> Made:
    starts = [
        b"",
        b"\xff\xfb\x90\x64",
        b"\xff\xf1\x50\x80",
        b"RIFF",
        b"OggS",
        b"fLaC",
        b"ID3",
        b"\x1aE\xdf\xa3",
        b"\x0bw",
    ]
    content = rng.integers(0, 256, int(rng.integers(1, 20_000)), dtype=np.uint8).tobytes()
    return Case("", "random", starts[rng.integers(len(starts))] + content), str(
        rng.choice([".wav", ".mp3", ".bin", ""])
    )


def _zeros(rng: np.random.Generator) -> Made:
    return Case("", "zeros", bytes(int(rng.integers(1, 5_000))), False), str(rng.choice([".wav", ".mp3", ".raw"]))


def _empty(rng: np.random.Generator) -> Made:
    return Case("", "empty", b"", False), str(rng.choice([".wav", ".flac", ".mp4", ".mp3"]))


def _no_samples(rng: np.random.Generator) -> Made:
    kind = [kind for kind in KINDS if kind.subtype in ("PCM_16", "PCM_24")]
    chosen = kind[rng.integers(len(kind))]
    return Case("", f"{chosen.format} without samples", _encode(chosen, np.zeros((0, 1)), 44_100), False), chosen.suffix


def _text(rng: np.random.Generator) -> Made:
    text = TEXTS[rng.integers(len(TEXTS))]
    suffix = str(rng.choice([".wav", ".m3u8", ".ffconcat", ".sdp", ".mp4", ".txt", ".pls", ".svg"]))
    return Case("", f"text {text[:20]!r}", text.encode(), False), suffix


_MAKERS: tuple[tuple[Callable[[np.random.Generator], Made], float], ...] = (
    (_good, 6),
    (_good_for_ffmpeg if HAS_FFMPEG else _good, 0.6),
    (_truncated, 4),
    (_flipped, 4),
    (_glued, 1),
    (_wrong_extension, 2),
    (_not_finite, 1),
    (_wav_header, 2),
    (_other_header, 1),
    (_random, 1),
    (_zeros, 0.3),
    (_empty, 0.3),
    (_no_samples, 0.5),
    (_text, 2),
)
