"""Rate limits: after a 429 with Retry-After nothing is called until then, and soon after it is."""

from planner.evaluation.world import Member, Moment, Reply, Respond, Spell, Want, World

# The limits stand in these minutes; the first is told in seconds, the second as a date.
LIMITS = ((60.0, 120.0), (200.0, 245.0))


def _targets() -> dict[str, Respond]:
    def quota(at: Moment) -> Reply:
        if at.during(*LIMITS[0]):
            seconds = round((LIMITS[0][1] - at.minute) * 60)
            return Reply({"error": "rate limited", "retry_after_s": seconds}, status=429, retry_after=str(seconds))
        if at.during(*LIMITS[1]):
            seconds = round((LIMITS[1][1] - at.minute) * 60)
            # 12:00 and 245 minutes.
            date = "Mon, 02 Mar 2026 16:05:00 GMT"
            return Reply({"error": "rate limited", "retry_after_s": seconds}, status=429, retry_after=date)
        return Reply({"items": at.dice.randint(1, 9)})

    return {"quota": quota}


WORLD = World(
    name="ratelimit",
    summary="An API answers 429 twice and says how long to wait.",
    minutes=300,
    members=(
        Member(
            "quota",
            {"baseline_interval_ms": 600_000},
            description="An API with a quota. After 429 do not call it until the time it asked for has passed.",
        ),
    ),
    targets=_targets,
    spells=tuple(Spell("quota", "rate limited", begin, end) for begin, end in LIMITS),
    wants=(
        Want(
            "Of each limit one call is refused, and no more.",
            lambda played: all(len(played.runs("quota", begin, end)) == 1 for begin, end in LIMITS),
        ),
        Want(
            "Soon after the limit is over the API is called again.",
            lambda played: all(any(run.ok for run in played.runs("quota", end, end + 11)) for _, end in LIMITS),
        ),
        Want("Else the own schedule stands.", lambda played: len(played.runs("quota", 130, 200)) == 7),
    ),
)
