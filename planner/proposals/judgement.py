"""What is to become of a wish, given what stands on its endpoint: mode, hold, bounds, rank of what is in force. Pure.

`planner.proposals.filing` judges from the locked row; an evaluation judges from a row that it makes up.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from planner.proposals.wishes import (
    Bounded,
    Bounds,
    ClearHints,
    PauseUntil,
    ProposeInterval,
    ProposeNextTime,
    Refusal,
    Speaker,
    Wish,
    bound,
)
from scheduling.plan.wording import duration_words, instant_words

# Two pauses of one speaker that end this close together are the same pause.
SAME_PAUSE = timedelta(minutes=1)


class Verdict(StrEnum):
    """What becomes of a wish; the values are those of `planner.models.ProposalStatus`, but for NOTHING: not stored."""

    APPLIED = "applied"
    SHADOW = "shadow"
    PENDING = "pending"
    REFUSED = "refused"
    HELD = "held"
    NOTHING = "nothing"


_BY_MODE = {"auto": Verdict.APPLIED, "approve": Verdict.PENDING, "shadow": Verdict.SHADOW}


@dataclass(frozen=True, slots=True)
class InForce:
    """A hint or a pause that is in force: who set it, by which rule, what was asked, and until when.

    `interval_ms` is what was granted of an interval. With `shadow` it is in force in mode `shadow` only, where the
    planner goes on as if its word had counted. `proposal_id` is None where no proposal is behind it.
    """

    speaker: Speaker
    key: str | None
    asked: dict[str, Any]
    expires_at: datetime
    interval_ms: int | None = None
    shadow: bool = False
    proposal_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands on an endpoint; None: no hold, nothing in force.

    `mode` is off, shadow, approve or auto; `active` tells that neither endpoint nor job is paused or archived by a
    person; `next_run_at` is when it would run without a pause, None when nothing is due. Only pauses look at it.
    `backed_off_until` is when a failing endpoint's own schedule calls next; None where it does not fail or has no
    back-off, and where its owner's text speaks of failures. Only the model's word gives way to it.
    """

    mode: str
    active: bool
    hold_until: datetime | None
    interval: InForce | None
    oneshot: InForce | None
    pause: InForce | None
    bounds: Bounds
    next_run_at: datetime | None = None
    backed_off_until: datetime | None = None

    def in_place_of(self, wish: Wish) -> InForce | None:
        """What the wish would replace."""
        if isinstance(wish, ProposeInterval):
            return self.interval
        if isinstance(wish, ProposeNextTime):
            return self.oneshot
        return self.pause if isinstance(wish, PauseUntil) else None


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict, the wish inside its bounds (None where it is refused or nothing), and why in words ("" is none).

    With `renews` it asks for what is in force already, which is to last longer.
    """

    verdict: Verdict
    bounded: Bounded | None
    why: str
    renews: bool = False


def judge(
    wish: Wish,
    standing: Standing,
    *,
    speaker: Speaker,
    key: str | None,
    own_only: bool,
    now: datetime,
    from_sibling: bool = False,
) -> Judged:
    """What becomes of a wish.

    `key` names the speaker's rule; `own_only` clears hints of this very speaker only; with `from_sibling`, what another
    endpoint's answers led to, it may only make the endpoint run sooner.
    """
    needless = _needless(wish, standing, speaker, key, own_only, now)
    if needless is not None:
        return Judged(Verdict.NOTHING, None, needless)
    bounded = bound(wish, standing.bounds, now, speaker=speaker)
    if isinstance(bounded, Refusal):
        return Judged(Verdict.REFUSED, None, bounded.why)
    pointless = pointless_pause(bounded.wish, standing.next_run_at, now)
    if pointless is not None:
        return Judged(Verdict.NOTHING, None, pointless)
    if standing.hold_until is not None and standing.hold_until > now:
        until = f"{standing.hold_until:%Y-%m-%d %H:%M} UTC"
        return Judged(Verdict.HELD, bounded, f"A person's word stands until {until}.")
    hint = standing.in_place_of(wish)
    if hint is not None and hint.speaker.outranks(speaker):
        return Judged(Verdict.REFUSED, bounded, f"What the {hint.speaker.value} set is in force and comes first.")
    delay = _not_sooner(bounded, standing, now) if from_sibling else None
    if delay is not None:
        return Judged(Verdict.REFUSED, bounded, delay)
    backed_off = standing.backed_off_until if speaker is Speaker.MODEL else None
    if backed_off is not None and isinstance(bounded.wish, ProposeNextTime) and bounded.wish.next_run_at < backed_off:
        until = instant_words(backed_off, now)
        why = f"It fails and waits until {until}; its description says nothing of failures, so nothing calls it sooner."
        return Judged(Verdict.REFUSED, bounded, why)
    if backed_off is not None and isinstance(bounded.wish, ProposeInterval):
        note = f"{bounded.note}; in force when the endpoint answers again".removeprefix("; ")
        bounded = replace(bounded, note=note)
    verdict = _BY_MODE[standing.mode]
    return Judged(verdict, bounded, bounded.note, _renews(hint, verdict, speaker, key, wish, bounded.wish))


def _not_sooner(bounded: Bounded, standing: Standing, now: datetime) -> str | None:
    """Why a sibling's word would not make the endpoint run sooner throughout, in words; None where it would."""
    wish, interval, oneshot = bounded.wish, standing.interval, standing.oneshot
    if isinstance(wish, ProposeNextTime):
        at = oneshot.asked.get("next_run_at") if oneshot is not None else None
        is_later = at is not None and wish.next_run_at >= datetime.fromisoformat(at)
        return "It is to run once no later than that already." if is_later else None
    if not isinstance(wish, ProposeInterval):
        return "A sibling may only be made to run sooner."
    pace_ms = standing.bounds.usual_gap_ms
    if interval is not None:
        low, high = standing.bounds.limits_ms()
        pace_ms = min(max(interval.asked.get("interval_ms", 0), low), high)
    if pace_ms is None or wish.interval_ms >= pace_ms:
        pace = "at its own time" if pace_ms is None else f"every {duration_words(pace_ms)}"
        return f"A sibling may only be made to run sooner; it runs {pace}."
    if interval is not None and now + timedelta(milliseconds=bounded.ttl_ms or 0) < interval.expires_at:
        return f"The interval in force lasts longer, until {instant_words(interval.expires_at, now)}."
    return None


def pointless_pause(wish: Wish, next_run_at: datetime | None, now: datetime) -> str | None:
    """Why a pause would defer nothing, in words; None where it defers the next run, and for any other wish.

    An interval endpoint runs when its pause ends, so a pause that ends sooner than its next run would start it early.
    """
    if not isinstance(wish, PauseUntil) or wish.until is None:
        return None
    if next_run_at is None:
        return "Nothing is due, so there is nothing to defer."
    if next_run_at >= wish.until:
        return f"The pause would end before the next run at {instant_words(next_run_at, now)} and defer nothing."
    return None


def says_the_same(hint: InForce | None, speaker: Speaker, key: str | None, wish: Wish, now: datetime) -> bool:
    """Whether a hint or pause of the same speaker and rule asks for the same already.

    An interval's hint must not yet be at half of its life: it is renewed then.
    """
    if hint is None or hint.speaker is not speaker or hint.key != key:
        return False
    if isinstance(wish, ProposeInterval):
        half = timedelta(minutes=wish.ttl_minutes) / 2
        return hint.asked.get("interval_ms") == wish.interval_ms and hint.expires_at - now > half
    if isinstance(wish, ProposeNextTime):
        return bool(hint.asked.get("next_run_at") == wish.model_dump(mode="json")["next_run_at"])
    return isinstance(wish, PauseUntil) and wish.until is not None and abs(wish.until - hint.expires_at) < SAME_PAUSE


def _renews(
    hint: InForce | None, verdict: Verdict, speaker: Speaker, key: str | None, wish: Wish, granted: Wish
) -> bool:
    """Whether the wish is the word behind the hint again, with the same outcome."""
    if hint is None or hint.speaker is not speaker or hint.key != key:
        return False
    if verdict is not (Verdict.SHADOW if hint.shadow else Verdict.APPLIED):
        return False
    if not isinstance(wish, ProposeInterval) or not isinstance(granted, ProposeInterval):
        return False
    return hint.asked.get("interval_ms") == wish.interval_ms and hint.interval_ms == granted.interval_ms


def may_clear(hint: InForce | None, speaker: Speaker, own_only: bool) -> bool:
    """Whether the speaker may drop the hint: never a person's, and not one of higher rank."""
    if hint is None or hint.speaker is Speaker.PERSON:
        return False
    return hint.speaker is speaker if own_only else not hint.speaker.outranks(speaker)


def _needless(
    wish: Wish, standing: Standing, speaker: Speaker, key: str | None, own_only: bool, now: datetime
) -> str | None:
    """Why there is nothing to judge, in words; None where there is."""
    if standing.mode == "off":
        return "The planner is off for this endpoint."
    if not standing.active:
        return "The endpoint is not active."
    if isinstance(wish, ClearHints):
        hints = (standing.interval, standing.oneshot)
        if any(may_clear(hint, speaker, own_only) for hint in hints):
            return None
        return "There is no hint that you may clear."
    if isinstance(wish, PauseUntil) and wish.until is None and standing.pause is None:
        return "There is no pause to end."
    same = says_the_same(standing.in_place_of(wish), speaker, key, wish, now)
    return "This is in force already." if same else None
