"""What a training run takes in disk, hours and money, calculated from measured figures.

    python benchmarks/cost.py --seconds-per-step=0.25 --steps=1000000 --devices=8 --price-per-device-hour=2.50 \
        --clips=2000000 --store-share=0.2 --prepare-clips-per-second=100 --mining-clips-per-second=50

    python benchmarks/cost.py --gflop-per-item=314.3 --peak-tflops=494 --share-of-peak=0.2 --devices=8 \
        --price-per-device-hour=2.50     where no step was measured on the device: an assumption, and no more

Measure --seconds-per-step with benchmarks/train_step.py at the batch of one device, or take `seconds_per_step` of a
run's speed.jsonl, which counts waiting for input and for other devices too. Prices are whatever you pay. Prints each
formula with its numbers filled in. Preparing and mining are left out where their speed is not given.
"""

import argparse
import dataclasses

from uss_jax.audio import SAMPLE_RATE_HZ

BYTES_PER_SAMPLE = 2  # stored clips are 16-bit
SEGMENT_SECONDS = 2.0  # of an anchor


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A result: its name, its value, its unit, and the formula with the numbers that gave it."""

    name: str
    value: float
    unit: str
    formula: str

    def __str__(self) -> str:
        return f"{self.name:16} {self.value:12,.2f} {self.unit:9} = {self.formula}"


def clips_disk(clips: int, clip_seconds: float) -> Quantity:
    """What the stored clips take, in GB (10⁹ bytes)."""
    value = clips * clip_seconds * SAMPLE_RATE_HZ * BYTES_PER_SAMPLE / 1e9
    return Quantity("disk, clips", value, "GB", f"{clips:,} clips × {clip_seconds:g} s × {SAMPLE_RATE_HZ:,} Hz × 2 B")


def store_disk(clips_gb: float, store_share: float) -> Quantity:
    """What a store of anchors alone takes, in GB; once it is made, training needs no clips."""
    return Quantity("disk, anchors", clips_gb * store_share, "GB", f"{clips_gb:,.1f} GB × {store_share:g}")


def training_hours(steps: int, seconds_per_step: float) -> Quantity:
    """How long the steps take, in hours."""
    value = steps * seconds_per_step / 3600
    return Quantity("training", value, "h", f"{steps:,} steps × {seconds_per_step:.4g} s / 3600")


def step_seconds(gflop_per_item: float, batch_per_device: int, peak_tflops: float, share_of_peak: float) -> Quantity:
    """How long a step takes a device that reaches a share of its peak, in seconds."""
    value = gflop_per_item * batch_per_device / (1000 * peak_tflops * share_of_peak)
    formula = f"{gflop_per_item:g} GFLOP × {batch_per_device} / ({peak_tflops:g} TFLOP/s × {share_of_peak:g})"
    return Quantity("step", value, "s", formula)


def batch_job_hours(name: str, clips: int, clips_per_second: float, workers: int = 1) -> Quantity:
    """How long it takes to go once through the clips, in hours: preparing, or mining on several devices."""
    value = clips / (clips_per_second * workers) / 3600
    shared = f" × {workers}" if workers > 1 else ""
    return Quantity(name, value, "h", f"{clips:,} clips / ({clips_per_second:g} clips/s{shared}) / 3600")


def reading_rate(batch_per_device: int, devices: int, seconds_per_step: float) -> Quantity:
    """What all hosts together read at least while they train, in MB/s (10⁶ bytes): each target is a partner too."""
    value = batch_per_device * devices * SEGMENT_SECONDS * SAMPLE_RATE_HZ * BYTES_PER_SAMPLE / seconds_per_step / 1e6
    formula = f"{batch_per_device} × {devices} anchors × {SEGMENT_SECONDS:g} s × {SAMPLE_RATE_HZ:,} Hz × 2 B"
    return Quantity("reading", value, "MB/s", f"{formula} / {seconds_per_step:.4g} s")


def price(hours: list[Quantity], devices: int, price_per_device_hour: float) -> Quantity:
    """What devices cost for a time, in the price's currency."""
    total = sum(quantity.value for quantity in hours)
    summed = " + ".join(f"{quantity.value:,.1f}" for quantity in hours)
    formula = f"({summed}) h × {devices} devices × {price_per_device_hour:g}"
    return Quantity("price", total * devices * price_per_device_hour, "", formula)


def report(args: argparse.Namespace) -> list[Quantity]:
    """All results, in order."""
    found = [clips_disk(args.clips, args.clip_seconds)]
    if args.store_share is not None:
        found.append(store_disk(found[0].value, args.store_share))
    if args.prepare_clips_per_second is not None:
        found.append(batch_job_hours("preparing", args.clips, args.prepare_clips_per_second))
    paid = []
    if args.mining_clips_per_second is not None:
        paid.append(batch_job_hours("mining", args.clips, args.mining_clips_per_second, args.devices))
    seconds = args.seconds_per_step
    if seconds is None:
        found.append(step_seconds(args.gflop_per_item, args.batch_per_device, args.peak_tflops, args.share_of_peak))
        seconds = found[-1].value
    paid.append(training_hours(args.steps, seconds))
    reading = reading_rate(args.batch_per_device, args.devices, seconds)
    return [*found, *paid, reading, price(paid, args.devices, args.price_per_device_hour)]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds-per-step", type=float, help="measured")
    parser.add_argument("--gflop-per-item", type=float, help="of a step, as train_step.py counts them")
    parser.add_argument("--peak-tflops", type=float, help="of a device, by its data sheet")
    parser.add_argument("--share-of-peak", type=float, help="assumed")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--batch-per-device", type=int, default=16)
    parser.add_argument("--price-per-device-hour", type=float, required=True)
    parser.add_argument("--clips", type=int, default=2_000_000)
    parser.add_argument("--clip-seconds", type=float, default=10.0)
    parser.add_argument("--store-share", type=float, help="size of a store of anchors, as a share of the clips' size")
    parser.add_argument("--prepare-clips-per-second", type=float, help="measured, of all workers; no device needed")
    parser.add_argument("--mining-clips-per-second", type=float, help="measured, of one device")
    args = parser.parse_args()
    assumed = (args.gflop_per_item, args.peak_tflops, args.share_of_peak)
    if (args.seconds_per_step is None) == (None in assumed):
        parser.error("give --seconds-per-step, or --gflop-per-item, --peak-tflops and --share-of-peak")
    for quantity in report(args):
        print(quantity)


if __name__ == "__main__":
    main()
