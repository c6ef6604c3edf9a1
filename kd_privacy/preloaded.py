"""`kd_privacy.cli` and all that its runs may import, for a server that forks them.

The command itself leaves to their first use what many runs do without.
"""

# ruff: noqa: F401
import captum.attr
import datasets
import datasketch
import peft
import rouge_score.rouge_scorer
import sklearn.discriminant_analysis
import sklearn.feature_extraction.text
import tensorboard.plugins.hparams.plugin_data_pb2
import torch.utils.tensorboard.summary
import transformers.models.gpt2.modeling_gpt2
import transformers.models.llama.modeling_llama
import transformers.models.opt.modeling_opt

from kd_privacy.cli import main as main
