"""Networks by the names that configurations give them: one more is a file beside this one, and a line here."""

import flax.linen as nn

from uss_jax.models import cnn14
from uss_jax.models.resunet import ResUNet

TAGGERS: dict[str, type[nn.Module]] = {
    "cnn14": cnn14.Cnn14,
    "cnn14_decision_level_max": cnn14.Cnn14DecisionLevelMax,
}
SEPARATORS: dict[str, type[nn.Module]] = {
    "resunet": ResUNet,
}
