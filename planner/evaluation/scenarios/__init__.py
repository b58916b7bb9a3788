"""The shipped scenarios: worlds in which a person can say what a good planner would do."""

from planner.evaluation.scenarios import (
    cooldown,
    degradation,
    flashsale,
    inverse,
    oscillation,
    pipeline,
    ratelimit,
    sibling,
    volume,
)
from planner.evaluation.world import World

SCENARIOS: dict[str, World] = {
    module.WORLD.name: module.WORLD
    for module in (
        degradation,
        volume,
        sibling,
        pipeline,
        cooldown,
        inverse,
        oscillation,
        ratelimit,
        flashsale,
    )
}
