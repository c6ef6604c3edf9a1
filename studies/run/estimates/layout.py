"""How a training run's state lies on its devices: strategy, devices, precision."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from studies.plan.settings import Settings

_STRATEGIES = {
    "auto": "single",
    "SingleDeviceStrategy": "single",
    "DDPStrategy": "ddp",
    "fsdp": "fsdp",
    "FSDPStrategy": "fsdp",
    "ModelParallelStrategy": "fsdp2",
    "deepspeed_stage_2": "deepspeed_2",
    "DeepSpeedStrategy": "deepspeed_2",
}
_PRECISIONS = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}
_KNOWN_PRECISIONS = ("32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true")


class UnknownLayoutError(Exception):
    """A strategy or precision whose memory is not modelled; the message is the reason, one line."""


@dataclass(frozen=True)
class Layout:
    """Where state lies and in which type.

    Attributes:
        strategy: single, ddp, fsdp, fsdp2 or deepspeed_2.
        devices: Of all nodes.
        precision: Lightning's name.
        on_cpu: Whether the devices are processes on CPUs.
        assumed: What the settings leave to the machine and was taken for granted; may be empty.
    """

    strategy: str
    devices: int
    precision: str = "32-true"
    on_cpu: bool = False
    assumed: str = ""

    @property
    def weight_shards(self) -> int:
        """Over how many devices the weights lie."""
        return self.devices if self.strategy in ("fsdp", "fsdp2") else 1

    @property
    def state_shards(self) -> int:
        """Over how many devices gradients and optimiser states lie."""
        return self.devices if self.strategy == "deepspeed_2" else self.weight_shards

    @property
    def is_mixed(self) -> bool:
        """Whether the network computes in 16 bits on weights that are kept in 32."""
        return self.precision.endswith("mixed")

    @property
    def weight_bytes(self) -> int:
        """Bytes of a weight and of its gradient as they are kept."""
        by_deepspeed = self.is_mixed and self.strategy == "deepspeed_2"
        return 2 if by_deepspeed or self.precision in ("16-true", "bf16-true") else 4

    @property
    def state_bytes(self) -> int:
        """Bytes of AdamW's state of one weight; DeepSpeed's mixed precision adds a float32 copy."""
        by_deepspeed = self.is_mixed and self.strategy == "deepspeed_2"
        return 12 if by_deepspeed else 2 * self.weight_bytes


def layout_of(settings: Settings) -> Layout:
    """Reads a run's layout from its settings.

    Raises:
        UnknownLayoutError: A strategy or precision that is not modelled.
    """
    accelerator = settings.text("trainer.accelerator", "auto")
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
    per_node, assumed = _devices(settings, on_cpu)
    devices = per_node * settings.count("trainer.num_nodes", 1)
    strategy = _strategy(settings)
    if devices == 1:
        strategy = "single"
    elif strategy == "single":
        strategy = "ddp"
    given = settings.text("trainer.precision", "32-true")
    precision = _PRECISIONS.get(given, given)
    if precision not in _KNOWN_PRECISIONS:
        raise UnknownLayoutError(f"trainer.precision {precision} is not modelled")
    return Layout(strategy, devices, precision, on_cpu, assumed)


def _devices(settings: Settings, on_cpu: bool) -> tuple[int, str]:
    given = settings.get("trainer.devices", "auto")
    if isinstance(given, list):
        return max(1, len(given)), ""
    if str(given).isdecimal() and int(str(given)) > 0:
        return int(str(given)), ""
    if on_cpu:
        return 1, ""
    here = torch.cuda.device_count()
    said = "the devices of this machine" if here else "one device: give --trainer.devices"
    return max(1, here), said


def _strategy(settings: Settings) -> str:
    given = settings.get("trainer.strategy", "auto")
    named = isinstance(given, Mapping)
    name = settings.class_name("trainer.strategy") if named else str(given)
    strategy = "ddp" if name.startswith("ddp") else _STRATEGIES.get(name)
    other_stage = settings.count("trainer.strategy.stage", 2) != 2
    if strategy is None or (strategy == "deepspeed_2" and other_stage):
        raise UnknownLayoutError(f"trainer.strategy {name} is not modelled")
    return strategy
