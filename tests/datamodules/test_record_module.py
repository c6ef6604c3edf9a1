"""Which populations audits oppose, and where coins decided the sides."""

from datamodules.canaries import CanaryPlan
from datamodules.external import ExternalDataModule
from datamodules.instruction import InstructionDataModule
from datamodules.split_options import SplitOptions


def test_fair_coins_decide_the_pool_and_the_canaries_alone() -> None:
    canaries = CanaryPlan(coin=4, exposure_per_level=0)
    swap = InstructionDataModule(canaries=canaries)
    expected = {"private": True, "canary_in": True, "public": False, "never": False}
    assert {name: swap.fair_coins(name) for name in expected} == expected
    assert {name: swap.dealt_by_coins(name) for name in expected} == expected
    assert [swap.opposed_to(name) for name in ("private", "canary_in")] == [
        "held_out",
        "canary_out",
    ]
    released = InstructionDataModule(splits=SplitOptions(protocol="as_released"))
    assert not released.fair_coins("private")
    assert not released.dealt_by_coins("private")
    assert not ExternalDataModule("a.jsonl", "b.jsonl").dealt_by_coins("external")
    halved = InstructionDataModule(splits=SplitOptions(private_parts=2), private_part=0)
    # Half of what the coins put into private is not trained on; the coins dealt the sides all the
    # same.
    assert not halved.fair_coins("private")
    assert halved.dealt_by_coins("private")
