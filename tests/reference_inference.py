"""`uss.inference` of the reference as it is, on files, and the files that it needs.

Three things are put in place of the reference's own: downloads (there are none), the format of the WAV files (32-bit
floats, so that 16 bits do not limit a comparison), and its drawings, which it leaves in the working folder.
"""

import argparse
import functools
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import reference
import seeded
from reference import torch

lightning = pytest.importorskip("lightning.pytorch")

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from uss_reference import make_home, write_floats  # noqa: E402


class Inference:
    """The reference, set up in a home folder of its own.

    Attributes:
      tagger: the file that it takes for Cnn14 of PANNs.
    """

    def __init__(self, home: Path) -> None:
        make_home(home)
        os.environ.update(HOME=str(home), MPLBACKEND="agg", MPLCONFIGDIR=str(home / "matplotlib"))
        self.tagger = Path()
        import uss.utils

        found = uss.utils.get_path
        uss.utils.get_path = lambda meta: str(self.tagger) if "Cnn14" in str(meta["path"]) else found(meta)
        import uss.inference
        import uss.models.query_nets

        uss.inference.soundfile = argparse.Namespace(write=write_floats)
        uss.inference.plt = argparse.Namespace(matshow=lambda *_, **__: None, savefig=lambda *_: None)
        self._uss = uss

    def nodes(self) -> list[Any]:
        """The ontology in the reference's order."""
        from uss.config import csv_paths_dict
        from uss.parse_ontology import Node, get_ontology_tree

        return Node.traverse(get_ontology_tree(csv_paths_dict["ontology.csv"]["path"]))

    def classes_below(self, node: Any) -> list[int]:
        """Class indices at and below a node, sorted."""
        return sorted(self._uss.inference.get_children_indexes(node))

    def save(self, path: Path, configs: Mapping[str, Any], separator: str, sed: Any = None, query: Any = None) -> None:
        """Trains for a step and writes a checkpoint by Lightning itself, with all that it puts there.

        Args:
          path: where to.
          configs: the section `query_net` of the reference's configuration.
          separator: name of the separator's weights in `seeded`.
          sed: a module to go into the anchor detector, as in training; None as in inference.
          query: called with the query net, to change it.
        """
        from uss.data.anchor_segment_detectors import AnchorSegmentDetector
        from uss.models.pl_modules import LitSeparation

        query_net = self._uss.models.query_nets.initialize_query_net({"query_net": configs})
        if query is not None:
            query(query_net)
        detector = AnchorSegmentDetector(sed, 10.0, 2.0, 100, 32_000, "max_area") if sed is not None else None

        class Untouched(LitSeparation):
            """Takes a training step that leaves the weights as they are."""

            def training_step(self, batch: Any, index: int) -> Any:
                return 0.0 * sum(weight.sum() for weight in self.ss_model.parameters())

        model = Untouched(
            ss_model=reference.module(separator),
            anchor_segment_detector=detector,
            anchor_segment_mixer=None,
            query_net=query_net,
            loss_function=None,
            optimizer_type="AdamW",
            learning_rate=1e-3,
            lr_lambda_func=functools.partial(lambda factor, step: factor, 1.0),
        )
        quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        trainer = lightning.Trainer(accelerator="cpu", max_steps=1, **dict.fromkeys(quiet, False))
        trainer.fit(model, torch.utils.data.DataLoader([0]))
        trainer.save_checkpoint(path)

    def load(self, config: Path, checkpoint: Path) -> Any:
        """The reference's model of a checkpoint."""
        configs = json.loads(config.read_text())
        return self._uss.inference.load_ss_model(configs=configs, checkpoint_path=str(checkpoint)).eval()

    def average_query(self, model: Any, folder: Path, remove_silence: bool = False) -> Any:
        """The mean condition of the WAV files in a folder, as its benchmarks make it: (condition,)."""
        fields = {"sample_rate": 32_000, "segment_samples": 64_000, "remove_sil": remove_silence}
        return self._uss.inference.calculate_query_emb(str(folder), model, **fields)

    def separate_by_query(self, model: Any, mixture: Any, query: Any) -> Any:
        """What its benchmarks take for the estimate: (time,), as the mixture."""
        fields = {"sample_rate": 32_000, "segment_samples": 64_000, "output_path": None}
        return self._uss.inference.separate_by_query_condition(mixture, query_condition=query, pl_model=model, **fields)

    def sdr(self, reference: Any, estimate: Any) -> float:
        """Its SDR, in dB."""
        return float(self._uss.utils.calculate_sdr(ref=reference, est=estimate))

    def separate(self, audio: Path, config: Path, checkpoint: Path, out: Path, **wanted: Any) -> dict[str, Any]:
        """Runs `uss.inference.separate`.

        Args:
          audio, config, checkpoint, out: files and the folder for results.
          **wanted: levels, class_ids, queries_dir or query_emb_path.

        Returns:
          Samples by the path of their file in the folder.
        """
        import soundfile

        defaults = {"levels": [], "class_ids": [], "queries_dir": "", "query_emb_path": ""}
        files = {"audio_path": str(audio), "config_yaml": str(config), "checkpoint_path": str(checkpoint)}
        self._uss.inference.separate(argparse.Namespace(**defaults | wanted, **files, output_dir=str(out)))
        return {str(path.relative_to(out)): soundfile.read(path)[0] for path in sorted(out.rglob("*.wav"))}


def save_tagger(path: Path, state: seeded.names.State, name: str = "Cnn14") -> None:
    """A file in the form of PANNs', with everything that the module holds."""
    module = reference.load(reference.bare_module(name), state)
    torch.save({"iteration": 600_000, "model": module.state_dict()}, path)
