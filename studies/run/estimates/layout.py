"""How a training run's state lies on its devices: strategy, devices, precision."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from studies.plan.settings import Settings

__all__ = ["Layout", "UnknownLayoutError", "layout_of"]

_BY_NAME = {
    "auto": "single",
    "ddp": "ddp",
    "fsdp": "fsdp",
    "deepspeed_stage_2": "deepspeed_2",
}
_BY_CLASS = {
    "SingleDeviceStrategy": "single",
    "DDPStrategy": "ddp",
    "FSDPStrategy": "fsdp",
    "ModelParallelStrategy": "fsdp2",
}
_HALF = ("16", "bf16")


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
    def is_half(self) -> bool:
        """Whether the network computes in 16 bits."""
        return not self.precision.startswith("32")

    @property
    def keeps_half(self) -> bool:
        """Whether weights are kept in 16 bits: true half precision, and DeepSpeed's mixed one."""
        by_deepspeed = self.strategy.startswith("deepspeed") and self.is_half
        return by_deepspeed or (self.is_half and self.precision.endswith("true"))

    @property
    def weight_bytes(self) -> int:
        """Bytes of a weight and of its gradient as they are kept."""
        return 2 if self.keeps_half else 4

    @property
    def state_bytes(self) -> int:
        """Bytes of AdamW's state of one weight; DeepSpeed's mixed precision adds a float32 copy."""
        if self.strategy.startswith("deepspeed") and self.precision.endswith("mixed"):
            return 12
        return 2 * self.weight_bytes

    @property
    def gathered_bytes(self) -> int:
        """Bytes of a weight that a sharded strategy has gathered for a block's turn."""
        return 2 if self.strategy == "fsdp" and self.is_half else self.weight_bytes

    @property
    def casts(self) -> bool:
        """Whether autocast makes 16-bit copies of weights, which autograd keeps."""
        by_autocast = self.strategy in ("single", "ddp", "fsdp2")
        return by_autocast and self.is_half and self.precision.endswith("mixed")

    @property
    def activation_bytes(self) -> int:
        """Bytes of an element of the network's intermediate results."""
        return 2 if self.is_half else 4


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
    precision = settings.text("trainer.precision", "32-true")
    if precision in _HALF or precision == "32":
        precision += "-mixed" if precision in _HALF else "-true"
    known = ("32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true")
    if precision not in known:
        raise UnknownLayoutError(f"trainer.precision {precision} is not modelled")
    return Layout(strategy, devices, precision, on_cpu, assumed)


def _devices(settings: Settings, on_cpu: bool) -> tuple[int, str]:
    given = settings.get("trainer.devices", "auto")
    if isinstance(given, list):
        return max(1, len(given)), ""
    if isinstance(given, int) and given > 0:
        return given, ""
    if isinstance(given, str) and given.isdecimal() and int(given) > 0:
        return int(given), ""
    if on_cpu:
        return 1, ""
    here = torch.cuda.device_count()
    said = "the devices of this machine" if here else "one device: give --trainer.devices"
    return max(1, here), said


def _strategy(settings: Settings) -> str:
    given = settings.get("trainer.strategy", "auto")
    if isinstance(given, Mapping):
        name = settings.class_name("trainer.strategy")
        if name == "DeepSpeedStrategy":
            stage = settings.count("trainer.strategy.stage", 2)
            found = "deepspeed_2" if stage == 2 else None
        else:
            found = _BY_CLASS.get(name)
    else:
        name = str(given)
        found = _BY_NAME.get(name) or ("ddp" if name.startswith("ddp") else None)
    if found is None:
        raise UnknownLayoutError(f"trainer.strategy {name} is not modelled")
    return found
