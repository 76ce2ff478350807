"""Training steps: pure functions (state, batch) → (state, metrics)."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from uss_jax import augment
from uss_jax.losses import LOSSES
from uss_jax.model_dir import Networks
from uss_jax.models.cnn14 import Tags

Variables = dict[str, Any]
# The precision of a run: the type that the trained modules compute in, and how matrix products of float32 are made.
PRECISIONS = {
    "float32": (jnp.float32, "float32"),
    "tensorfloat32": (jnp.float32, "tensorfloat32"),
    "bfloat16": (jnp.bfloat16, "tensorfloat32"),
}
# (params, batch_stats, frozen, batch, key) → loss, new batch_stats
LossFunction = Callable[[Variables, Variables, Variables, dict[str, jax.Array], jax.Array], tuple[jax.Array, Variables]]


@flax.struct.dataclass
class TrainState:
    """Everything that a step reads and writes.

    Attributes:
      step: steps taken.
      seed: of what is random on the device; an array, so that runs that differ in it alone share a program.
      params: trained parameters.
      batch_stats: running statistics of BatchNorm.
      frozen: variables that are used and not trained: the tagger of a separator, unless it is trained too.
      opt_state: of the optimiser.
    """

    step: jax.Array
    seed: jax.Array
    params: Variables
    batch_stats: Variables
    frozen: Variables
    opt_state: Any


def make_step(
    loss_function: LossFunction,
    optimiser: optax.GradientTransformation,
    accumulate: int = 1,
    precision: str = "float32",
) -> Callable[..., Any]:
    """A step that takes a gradient, averages it over the devices, and updates.

    Random numbers come from (seed, step, device, part) alone, so a resumed run draws the same.

    Args:
      loss_function: what is minimised.
      optimiser: makes updates of gradients.
      accumulate: each device takes its batch in so many parts, one after the other, and adds up their gradients, so
        that it needs the memory of one part. BatchNorm normalises each part by itself.
      precision: one of `PRECISIONS`.
    """

    def gradient(state: TrainState, batch_stats: Variables, batch: dict[str, jax.Array], key: jax.Array) -> Any:
        with jax.default_matmul_precision(PRECISIONS[precision][1]):
            return jax.value_and_grad(loss_function, has_aux=True)(state.params, batch_stats, state.frozen, batch, key)

    def step(state: TrainState, batch: dict[str, jax.Array], axis_name: str) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(
            jax.random.fold_in(jax.random.key(state.seed), state.step), jax.lax.axis_index(axis_name)
        )

        def add(carry: Any, part: Any) -> tuple[Any, None]:
            batch_stats, total = carry
            (loss, batch_stats), grads = gradient(state, batch_stats, *part)
            return (batch_stats, jax.tree.map(lambda x, y: x + y / accumulate, total, (loss, grads))), None

        parts = jax.tree.map(lambda x: x.reshape(accumulate, -1, *x.shape[1:]), batch)
        keys = jax.random.split(key, accumulate)
        nothing = (jnp.zeros([]), jax.tree.map(jnp.zeros_like, state.params))
        carry = (state.batch_stats, nothing)
        if accumulate == 1:  # without a loop, in which XLA does not spread convolutions over the cores of a CPU
            (batch_stats, total), _ = add(carry, jax.tree.map(lambda x: x[0], (parts, keys)))
        else:
            (batch_stats, total), _ = jax.lax.scan(add, carry, (parts, keys))
        loss, grads = jax.lax.pmean(total, axis_name)
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": loss,
            "grad_norm": optax.global_norm(grads),
            "param_norm": optax.global_norm(params),
            "update_norm": optax.global_norm(updates),
        }
        return dataclasses.replace(
            state, step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state
        ), metrics

    return step


def tagger_loss(
    networks: Networks, mixup_alpha: float, mixup_share: float, mixup_union: bool, positive_weight: float = 1.0
) -> LossFunction:
    """Binary cross-entropy of clipwise probabilities against weak labels, on mixed-up clips.

    Args:
      networks: with the tagger.
      mixup_alpha, mixup_share, mixup_union: see `augment.mixup`.
      positive_weight: factor of the loss of what is labelled and not heard. The tagger then tells a probability p as
        w·p / (w·p + 1 − p), and hears at the same threshold what it is less sure of.

    Raises:
      ValueError: the weight is not above 0.
    """
    if not 0.0 < positive_weight < math.inf:
        raise ValueError(f"positive_weight {positive_weight:g}: expected more than 0")

    def loss(
        params: Variables, batch_stats: Variables, frozen: Variables, batch: dict[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, Variables]:
        del frozen
        audio, labels = batch["audio"], batch["labels"]
        mixup_key, augment_key, dropout_key = jax.random.split(key, 3)
        audio, labels = augment.mixup(mixup_key, audio, labels, mixup_alpha, mixup_share, mixup_union)
        tags, updated = networks.tagger.apply(
            {"params": params, "batch_stats": batch_stats},
            audio,
            train=True,
            rngs={"augment": augment_key, "dropout": dropout_key},
            mutable=["batch_stats"],
        )
        losses = optax.sigmoid_binary_cross_entropy(tags.logits, labels)
        losses += (positive_weight - 1.0) * labels * -jax.nn.log_sigmoid(tags.logits)
        return jnp.mean(losses), updated["batch_stats"]

    return loss


def separator_loss(networks: Networks, loss_name: str) -> LossFunction:
    """The separation loss, the query being what the tagger hears in the source itself (paper, equation 8).

    The tagger is trained where `params` has a `query_tagger`, and frozen otherwise. Parameters and BatchNorm's
    statistics are by part, as in `Networks.variables`.

    Args:
      networks: tagger, query net and separator.
      loss_name: one of `LOSSES`.

    Raises:
      ValueError: there is no such loss.
    """
    if loss_name not in LOSSES:
        raise ValueError(f"loss {loss_name!r}: expected one of {', '.join(LOSSES)}")
    assert networks.query is not None
    query = networks.query

    def tags_of(
        params: Variables, batch_stats: Variables, frozen: Variables, source: jax.Array, key: jax.Array
    ) -> tuple[Tags, Variables]:
        """What the tagger hears, and its new statistics."""
        if "query_tagger" not in params:
            return networks.query_tagger.apply(frozen, source), {}
        augment_key, dropout_key = jax.random.split(key)
        tags, updated = networks.query_tagger.apply(
            {"params": params["query_tagger"], "batch_stats": batch_stats["query_tagger"]},
            source,
            train=True,
            rngs={"augment": augment_key, "dropout": dropout_key},
            mutable=["batch_stats"],
        )
        return tags, {"query_tagger": updated["batch_stats"]}

    def loss(
        params: Variables, batch_stats: Variables, frozen: Variables, batch: dict[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, Variables]:
        tagger_key, query_key = jax.random.split(key)
        tags, tagger_stats = tags_of(params, batch_stats, frozen, batch["source"], tagger_key)
        clipwise = batch["labels"] if query.kind == "hard" else tags.clipwise * batch["query_classes"]
        condition = query.apply(
            {"params": params["query"]},
            dataclasses.replace(tags, clipwise=clipwise),
            train=True,
            rngs={"dropout": query_key},
        )
        estimate, updated = networks.separator.apply(
            {"params": params["separator"], "batch_stats": batch_stats["separator"]},
            batch["mixture"],
            condition,
            train=True,
            mutable=["batch_stats"],
        )
        return LOSSES[loss_name](estimate, batch["source"]), tagger_stats | {"separator": updated["batch_stats"]}

    return loss
