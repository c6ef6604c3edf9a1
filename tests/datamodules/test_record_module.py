"""Which populations audits oppose, and where coins decided the sides."""

from datamodules.canaries import CanaryPlan
from datamodules.instruction import InstructionDataModule
from datamodules.split_options import SplitOptions


def test_fair_coins_decide_the_pool_and_the_canaries_alone() -> None:
    canaries = CanaryPlan(coin=4, exposure_per_level=0)
    swap = InstructionDataModule(canaries=canaries)
    decided = {name: swap.fair_coins(name) for name in ("private", "canary_in", "public", "never")}
    assert decided == {"private": True, "canary_in": True, "public": False, "never": False}
    assert [swap.opposed_to(name) for name in ("private", "canary_in")] == [
        "held_out",
        "canary_out",
    ]
    assert not InstructionDataModule(splits=SplitOptions(protocol="as_released")).fair_coins(
        "private"
    )
    halved = InstructionDataModule(splits=SplitOptions(private_parts=2), private_part=0)
    assert not halved.fair_coins("private")
