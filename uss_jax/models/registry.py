"""Networks by the names that configurations give them: one more is a file beside this one, and a line here."""

import flax.linen as nn

from uss_jax.models import cnn14, transformer
from uss_jax.models.conv_tasnet import ConvTasNet
from uss_jax.models.open_unmix import OpenUnmix
from uss_jax.models.resunet import ResUNet
from uss_jax.models.separator import Separator
from uss_jax.models.unet import UNet

TAGGERS: dict[str, type[nn.Module]] = {
    "cnn6": cnn14.Cnn6,
    "cnn10": cnn14.Cnn10,
    "cnn14": cnn14.Cnn14,
    "cnn14_decision_level_max": cnn14.Cnn14DecisionLevelMax,
    "transformer": transformer.Transformer,
}
SEPARATORS: dict[str, type[Separator]] = {
    "resunet": ResUNet,
    "unet": UNet,
    "conv_tasnet": ConvTasNet,
    "open_unmix": OpenUnmix,
}
