"""The optimiser of the reference (AdamW with AMSGrad, stepwise warm-up), and a schedule for small runs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class AmsgradState(NamedTuple):
    """Steps taken, and first, second and greatest second moments."""

    steps: jax.Array
    mean: Any
    square: Any
    greatest: Any


def scale_by_amsgrad(beta1: float, beta2: float, eps: float) -> optax.GradientTransformation:
    """AMSGrad as PyTorch has it: the greatest second moment is taken before the bias correction.

    `optax.scale_by_amsgrad` takes it after, which keeps the large corrected values of the first steps for ever.
    """

    def init(params: Any) -> AmsgradState:
        mean, square, greatest = (jax.tree.map(jnp.zeros_like, params) for _ in range(3))
        return AmsgradState(jnp.zeros([], jnp.int32), mean, square, greatest)

    def update(grads: Any, state: AmsgradState, params: Any = None) -> tuple[Any, AmsgradState]:
        del params
        steps = state.steps + 1
        mean = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state.mean, grads)
        square = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g**2, state.square, grads)
        greatest = jax.tree.map(jnp.maximum, state.greatest, square)
        correction1 = 1 - beta1 ** steps.astype(jnp.float32)
        correction2 = 1 - beta2 ** steps.astype(jnp.float32)
        updates = jax.tree.map(lambda m, v: (m / correction1) / (jnp.sqrt(v / correction2) + eps), mean, greatest)
        return updates, AmsgradState(steps, mean, square, greatest)

    return optax.GradientTransformation(init, update)


def paper_schedule(learning_rate: float) -> optax.Schedule:
    """The reference's warm-up: ×0.001 for 10 000 steps, ×0.01 to 20 000, ×0.1 to 30 000, then ×1 for ever."""
    return optax.join_schedules(
        [optax.constant_schedule(learning_rate * factor) for factor in (0.001, 0.01, 0.1, 1.0)],
        [10_000, 20_000, 30_000],
    )


def cosine_schedule(learning_rate: float, steps: int, warmup_steps: int) -> optax.Schedule:
    """A linear rise over `warmup_steps`, then half a cosine down to zero at `steps`."""
    return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, steps)


def make_schedule(config: Any, steps: int) -> optax.Schedule:
    """The schedule that a config's `optimiser` section names. Raises ValueError where it names none."""
    if config.schedule == "paper":
        return paper_schedule(config.learning_rate)
    if config.schedule == "cosine":
        if config.warmup_steps >= steps:
            raise ValueError(f"optimiser.warmup_steps is {config.warmup_steps}: expected fewer than the {steps} steps")
        return cosine_schedule(config.learning_rate, steps, config.warmup_steps)
    raise ValueError(f"optimiser.schedule {config.schedule!r}: expected 'paper' or 'cosine'")


def make_optimiser(config: Any, schedule: optax.Schedule) -> optax.GradientTransformation:
    """AdamW with AMSGrad, preceded by clipping of the gradient's norm where the config asks for it."""
    clip = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    return optax.chain(
        *clip,
        scale_by_amsgrad(config.beta1, config.beta2, config.eps),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(schedule),
    )
