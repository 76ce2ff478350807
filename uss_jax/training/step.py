"""Training steps: pure functions (state, batch) → (state, metrics)."""

from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from uss_jax import augment
from uss_jax.losses import LOSSES
from uss_jax.model_dir import Networks

Variables = dict[str, Any]
# (params, batch_stats, frozen, batch, key) → loss, new batch_stats
LossFunction = Callable[[Variables, Variables, Variables, dict[str, jax.Array], jax.Array], tuple[jax.Array, Variables]]


@flax.struct.dataclass
class TrainState:
    """Everything that a step reads and writes.

    Attributes:
      step: steps taken.
      params: trained parameters.
      batch_stats: running statistics of BatchNorm.
      frozen: variables that are used and not trained: the tagger of a separator.
      opt_state: of the optimiser.
    """

    step: jax.Array
    params: Variables
    batch_stats: Variables
    frozen: Variables
    opt_state: Any


def make_step(loss_function: LossFunction, optimiser: optax.GradientTransformation, seed: int) -> Callable[..., Any]:
    """A step that takes a gradient, averages it over the devices, and updates.

    Random numbers come from (seed, step, device) alone, so a resumed run draws the same.
    """

    def step(state: TrainState, batch: dict[str, jax.Array], axis_name: str) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), state.step), jax.lax.axis_index(axis_name))
        (loss, batch_stats), grads = jax.value_and_grad(loss_function, has_aux=True)(
            state.params, state.batch_stats, state.frozen, batch, key
        )
        loss, grads = jax.lax.pmean((loss, grads), axis_name)
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": loss,
            "grad_norm": optax.global_norm(grads),
            "param_norm": optax.global_norm(params),
            "update_norm": optax.global_norm(updates),
        }
        return TrainState(state.step + 1, params, batch_stats, state.frozen, opt_state), metrics

    return step


def tagger_loss(networks: Networks, mixup_alpha: float, mixup_share: float, mixup_union: bool) -> LossFunction:
    """Binary cross-entropy of clipwise probabilities against weak labels, on mixed-up clips."""

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
        return jnp.mean(optax.sigmoid_binary_cross_entropy(tags.logits, labels)), updated["batch_stats"]

    return loss


def separator_loss(networks: Networks, loss_name: str, label_query_share: float) -> LossFunction:
    """The separation loss, the query being what the frozen tagger hears in the source itself (paper, equation 8).

    Args:
      networks: tagger, query net and separator.
      loss_name: one of `LOSSES`.
      label_query_share: share of examples whose query keeps only the classes that the source is labelled with, as
        queries of separation by class do; 0 in the reference.

    Raises:
      ValueError: there is no such loss.
    """
    if loss_name not in LOSSES:
        raise ValueError(f"loss {loss_name!r}: expected one of {', '.join(LOSSES)}")
    if label_query_share and networks.config["query"]["kind"] != "soft":
        raise ValueError("label_query_share needs a soft query")

    def loss(
        params: Variables, batch_stats: Variables, frozen: Variables, batch: dict[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, Variables]:
        query_key, mask_key = jax.random.split(key)
        tags = networks.tagger.apply(frozen, batch["source"])
        if label_query_share:
            masked = jax.random.uniform(mask_key, (len(batch["source"]), 1)) < label_query_share
            tags = tags.replace(clipwise=jnp.where(masked, tags.clipwise * batch["labels"], tags.clipwise))
        condition = networks.query.apply(  # type: ignore[union-attr]
            {"params": params["query"]}, tags, train=True, rngs={"dropout": query_key}
        )
        estimate, updated = networks.separator.apply(
            {"params": params["separator"], "batch_stats": batch_stats},
            batch["mixture"],
            condition,
            train=True,
            mutable=["batch_stats"],
        )
        return LOSSES[loss_name](estimate, batch["source"]), updated["batch_stats"]

    return loss
