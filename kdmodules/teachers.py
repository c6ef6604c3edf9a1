"""The frozen teachers of a distillation."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from datamodules.batches import InstructionBatch
from kdmodules.causal_lm import CausalLM
from kdmodules.families import require_window
from kdmodules.losses import TeacherRows
from kdmodules.network import load_model, require_same_vocabulary


class Teachers:
    """One teacher, or an ensemble whose probabilities are averaged.

    No module of PyTorch, which keeps the models out of the student's parameters, optimiser,
    checkpoints and strategy.

    Args:
        sources: Hub name, ``save_pretrained`` folder or checkpoint of each.

    Attributes:
        models: The loaded models, frozen and in evaluation mode; none before :meth:`load`.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self.sources = tuple(sources)
        self.models: tuple[CausalLM, ...] = ()

    def load(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> None:
        """Loads the models where that was not done yet.

        Args:
            tokenizer: Whose vocabulary the teachers must have.
            max_tokens: Longest text that they will read.

        Raises:
            UserError: If one cannot be loaded, has another vocabulary or too short a window.
        """
        if self.models:
            return
        for source in self.sources:
            require_same_vocabulary(source, tokenizer)
        models = []
        for source in self.sources:
            model = load_model(source).requires_grad_(False).eval()
            require_window(model, max_tokens)
            models.append(CausalLM(model, len(tokenizer)))
        self.models = tuple(models)

    def to(self, device: torch.device) -> None:
        """Moves the models."""
        for model in self.models:
            model.to(device)

    @torch.no_grad()
    def rows(self, batch: InstructionBatch) -> TeacherRows:
        """Returns what the objective needs of each teacher at the batch's scored tokens."""
        return tuple(model(lambda lm: (lm.hidden(batch), lm.head_weight)) for model in self.models)
