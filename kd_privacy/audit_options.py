"""What `kd_privacy.audit` and `audit_pair` can be asked, checked before anything is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from audits.blocks.signals import BlockSignal, LogitLens, ResidualNorm
from audits.context import require_distinct, require_sizes
from audits.membership.attacks import Attack, Loss, MinK, MinKPlusPlus, Reference, Zlib
from audits.memorization.audit import default_metrics
from audits.memorization.metrics import MemorizationMetric
from audits.scoring.references import BASE
from audits.spans.options import SpanOptions
from common.errors import UserError
from common.options import require_at_least
from datamodules.detected_pii import Detector, require_detector
from datamodules.encoding import Scored, require_scored
from kd_privacy.opened_models import Loading, Model, require_device, require_dtype
from kdmodules.models.adapter_files import adapter_folder_of
from kdmodules.models.pretrained import DeviceMap, Dtype

Chosen = TypeVar("Chosen", Attack, MemorizationMetric, BlockSignal)


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """Options of an audit; `kd_privacy.audit` says what each means.

    Of ``memorization``, ``blocks`` and ``utility``, None asks for what can be had: what cannot is
    left out and noted, where True, or a list, ends in an error.
    """

    template: str | None = None
    score: Scored = "assistant"
    attacks: Sequence[Attack] | None = None
    memorization: bool | Sequence[MemorizationMetric] | None = None
    blocks: bool | Sequence[BlockSignal] | None = None
    utility: bool | None = None
    spans: bool | SpanOptions = False
    reference: Model | Mapping[str, Model] | None = None
    default_task: str | None = None
    detect_pii: Detector | None = None
    columns: Mapping[str, str] | None = None
    dtype: Dtype = "float32"
    max_prompt_tokens: int = 256
    max_tokens: int = 512
    max_records: int | None = None
    batch_size: int = 64
    max_batch_tokens: int = 8192
    level: float = 0.95
    seed: int = 0
    progress: bool = True
    adapter_base: str | Mapping[str, str] | None = None
    device: str | torch.device | None = None
    device_map: DeviceMap | None = None
    drift: bool = False
    pseudonymise: bool | str | Path = False

    def __post_init__(self) -> None:
        """Checks every option by itself.

        Raises:
            UserError: Naming the option.
        """
        require_dtype(self.dtype)
        if self.drift and self.dtype == "float32":
            raise UserError("drift is that of rounded weights: give dtype bfloat16 or auto with it")
        if self.device is not None:
            require_device(self.device)
        if self.device is not None and self.device_map is not None:
            raise UserError("device and device_map both say where a model goes: give one of them")
        if not 0 < self.level < 1:
            raise UserError(f"level is {self.level}: give a share between 0 and 1, such as 0.95")
        require_scored(self.score)
        require_detector(self.detect_pii)
        require_at_least(1, max_prompt_tokens=self.max_prompt_tokens, max_tokens=self.max_tokens)
        require_at_least(0, seed=self.seed)
        require_sizes(self.max_records, self.batch_size, self.max_batch_tokens)
        # What is listed wrongly is told here, before anything is read.
        _ = self.chosen_attacks, self.metrics, self.signals

    @classmethod
    def among(cls, arguments: Mapping[str, Any]) -> "AuditOptions":
        """Returns the options among the arguments of a call, which has each under its name."""
        return cls(**{option.name: arguments[option.name] for option in fields(cls)})

    def loading(self, name: str, model: Model) -> Loading:
        """How a model is loaded that is named by its source.

        Args:
            name: What the model is called.
            model: The model, or where it is.
        """
        base = self.adapter_base
        if isinstance(base, Mapping):
            base = base.get(name)
        elif not _is_adapter(model):
            base = None
        return Loading(
            dtype=self.dtype,
            adapter_base=base,
            device=self.device,
            device_map=self.device_map,
        )

    @property
    def references(self) -> dict[str, Model]:
        """The reference models by name."""
        named = self.reference if isinstance(self.reference, Mapping) else {BASE: self.reference}
        return {name: model for name, model in named.items() if model is not None}

    @property
    def chosen_attacks(self) -> list[Attack]:
        """The membership attacks."""
        if self.attacks is None:
            compared = [Reference(name) for name in self.references]
            return [Loss(), Zlib(), MinK(), MinKPlusPlus(), *compared]
        return _listed("attacks", self.attacks, Attack)

    @property
    def metrics(self) -> list[MemorizationMetric]:
        """The memorization metrics; none where memorization is not asked for."""
        if self.memorization is None or isinstance(self.memorization, bool):
            return [] if self.memorization is False else default_metrics()
        return _listed("memorization", self.memorization, MemorizationMetric)

    @property
    def signals(self) -> list[BlockSignal]:
        """The signals of blocks; none where blocks are not asked for."""
        if self.blocks is None or isinstance(self.blocks, bool):
            return [] if self.blocks is False else [LogitLens(), ResidualNorm()]
        return _listed("blocks", self.blocks, BlockSignal)

    @property
    def span_options(self) -> SpanOptions:
        """How sensitive spans are looked for."""
        return SpanOptions() if isinstance(self.spans, bool) else self.spans

    def require_models(self, models: Mapping[str, Model]) -> None:
        """Refuses a model that is there already where it is to be loaded, and a base of none.

        Args:
            models: The audited models by what they are called.

        Raises:
            UserError: Naming the option.
        """
        device, base = self.device, self.adapter_base
        for name, model in models.items():
            if not isinstance(model, PreTrainedModel):
                continue
            if device is not None:
                raise UserError(
                    f"device is {device} and the {name} is given: move it, model.to({device!r})"
                )
            if self.drift:
                raise UserError(f"drift takes a {name} that is named by its folder or hub name")
        known = {**models, **self.references}
        if isinstance(base, Mapping):
            for name in base.keys() - known.keys():
                raise UserError(f"adapter_base names {name!r}: there are {', '.join(known)}")
        elif base is not None and not any(map(_is_adapter, known.values())):
            raise UserError(
                f"adapter_base is {base}, but no adapter alone is given: {', '.join(known)}"
            )


def _is_adapter(model: Model) -> bool:
    return isinstance(model, str | Path) and adapter_folder_of(str(model)) is not None


def _listed(option: str, given: Sequence[Chosen], kind: type) -> list[Chosen]:
    """Returns what an option names.

    Raises:
        UserError: It is no list, or names something else, nothing, or one thing twice.
    """
    if not isinstance(given, list | tuple):
        raise UserError(f"{option} is {given!r}: give a list of {kind.__name__} objects")
    for measure in given:
        if not isinstance(measure, kind):
            raise UserError(f"{option} names {measure!r}, which is no {kind.__name__} object")
    require_distinct(option, given)
    return list(given)
