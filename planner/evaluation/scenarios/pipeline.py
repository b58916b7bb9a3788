"""Extract, transform, load: each step runs when the step before it says that it is done, and only then."""

from dataclasses import dataclass
from itertools import pairwise

from planner.evaluation.play import Played
from planner.evaluation.world import Member, Moment, Reply, Respond, Want, World

# When a batch begins to be extracted, and when that is done.
BATCHES = ((0.0, 47.0), (120.0, 172.0))
DAILY = {"baseline_cron": "0 4 * * *"}


@dataclass
class _Pipeline:
    """Counts the batches that have come through each step; a step that is run too early refuses."""

    transformed: int = 0
    loaded: int = 0

    def extract(self, at: Moment) -> Reply:
        begin, end = next(batch for batch in reversed(BATCHES) if batch[0] <= at.minute)
        done = at.minute >= end
        return Reply({"state": "done" if done else "running", "batch": BATCHES.index((begin, end)) + 1})

    def transform(self, at: Moment) -> Reply:
        if self.transformed >= sum(end <= at.minute for _, end in BATCHES):
            return Reply({"error": "nothing was extracted"}, status=409)
        self.transformed += 1
        return Reply({"state": "done", "batch": self.transformed}, duration_ms=40_000)

    def load(self, at: Moment) -> Reply:
        if self.loaded >= self.transformed:
            return Reply({"error": "nothing was transformed"}, status=409)
        self.loaded += 1
        return Reply({"state": "done", "batch": self.loaded}, duration_ms=20_000)


def _targets() -> dict[str, Respond]:
    pipeline = _Pipeline()
    return {"extract": pipeline.extract, "transform": pipeline.transform, "load": pipeline.load}


def _ends(played: Played, step: str) -> list[float]:
    return [played.world.minute_of(run.finished_at) for run in played.runs(step)]


WORLD = World(
    name="pipeline",
    summary="Two batches are extracted, and are to be transformed and loaded as soon as they are ready.",
    minutes=240,
    members=(
        Member(
            "extract",
            {"baseline_interval_ms": 300_000},
            description="Says how far the extraction is. When state is done, run transform once for this batch.",
            rules=[
                {
                    "name": "extracted",
                    "when": {"path": "$.state", "op": "==", "value": "done"},
                    "then": {"run_sibling": "transform", "ttl_minutes": 720},
                }
            ],
        ),
        Member(
            "transform",
            DAILY,
            method="POST",
            description="Transforms the extracted batch. When state is done, run load once for this batch.",
            rules=[
                {
                    "name": "transformed",
                    "when": {"path": "$.state", "op": "==", "value": "done"},
                    # Every run says done, so that the rule matches on from batch to batch.
                    "then": {"run_sibling": "load", "ttl_minutes": 5, "every_minutes": 1},
                }
            ],
        ),
        Member("load", DAILY, method="POST", description="Loads the transformed batch."),
    ),
    targets=_targets,
    wants=(
        Want(
            "Each batch is transformed once and loaded once.",
            lambda played: len(played.runs("transform")) == len(played.runs("load")) == len(BATCHES),
        ),
        Want(
            "No step runs before the step before it is done.",
            lambda played: all(run.ok for run in played.history),
        ),
        Want(
            "The transformation begins at most a quarter of an hour after the extraction.",
            lambda played: all(
                0 <= minute - end <= 15 for (_, end), minute in zip(BATCHES, played.minutes("transform"), strict=False)
            ),
        ),
        Want(
            "The load begins at most 10 minutes after the transformation.",
            lambda played: all(
                0 <= minute - end <= 10
                for end, minute in zip(_ends(played, "transform"), played.minutes("load"), strict=False)
            ),
        ),
        Want(
            "The extraction is asked at its own pace.",
            lambda played: all(
                abs(later - earlier - 5) < 0.1 for earlier, later in pairwise(played.minutes("extract"))
            ),
        ),
    ),
)
