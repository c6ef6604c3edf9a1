"""Everything that a run may import, for a server that forks runs from a process that has it all.

`kd_privacy.cli` leaves to their first use what many runs do without.
"""

import captum.attr
import datasets
import datasketch
import peft
import rouge_score.rouge_scorer
import sklearn.feature_extraction.text
import tensorboard.plugins.hparams.plugin_data_pb2
import torch.utils.tensorboard.summary

import kd_privacy.cli

__all__ = [
    "captum",
    "datasets",
    "datasketch",
    "kd_privacy",
    "peft",
    "rouge_score",
    "sklearn",
    "tensorboard",
    "torch",
]
