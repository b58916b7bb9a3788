"""What is wrong with a text that is no cron expression here, by the name that its writer knows it by. Pure.

People bring expressions from crontabs, Quartz, Spring, AWS and Jenkins: each form that is not accepted is named, with
what to write instead.
"""

import re
from collections.abc import Callable, Sequence

from scheduling.cron.fields import (
    DAY,
    MACROS,
    MONTH,
    MONTH_NAMES,
    WEEKDAY,
    WEEKDAY_NAMES,
    CronError,
    CronField,
)

Token = tuple[str, int]

_FULL_MONTHS = (
    *("JANUARY", "FEBRUARY", "MARCH", "APRIL", "MAY", "JUNE", "JULY", "AUGUST", "SEPTEMBER", "OCTOBER"),
    *("NOVEMBER", "DECEMBER"),
)
_FULL_WEEKDAYS = ("SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY")
_NAME = "|".join((*MONTH_NAMES, *WEEKDAY_NAMES))
_LIKE_A_FIELD = re.compile(rf"(?:[0-9*?/,\-#LW]|{_NAME})+", re.IGNORECASE)
_YEARS = re.compile(r"(?:19|20)[0-9]{2}(?:[-,/][0-9,/-]+)?")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=")
_LIKE_A_ZONE = re.compile(r"(?:[A-Z][A-Za-z_]+/)+[A-Za-z_+0-9-]+|UTC|GMT|CET|EST")
_GO_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+")
_GO_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_LIKE_A_DURATION = re.compile(
    r"(?:every\b.*|p?t?[0-9.]+ *(?:ms|s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?)\b.*)"
)


def check_form(expression: str, tokens: Sequence[Token]) -> None:
    """Raises CronError where the whole text is of another kind than five fields or a name with @."""
    first, position = tokens[0]
    if first.startswith("#"):
        raise CronError("This is a comment of a crontab; write the five fields alone.", position=position)
    if first[0] in "\"'`":
        raise CronError("Leave the quotation marks out; write the five fields alone.", position=position)
    if variable := _VARIABLE.match(first):
        if variable[1].upper() in ("TZ", "CRON_TZ"):
            raise CronError(
                f"{first} names a zone; give the zone in the field timezone and leave {variable[1]}= out.",
                position=position,
            )
        raise CronError(f"{variable[0]} sets a variable of a crontab; leave it out.", position=position)
    if wrapped := re.match(r"(cron|rate)\(", first, re.IGNORECASE):
        remedy = "use an interval" if wrapped[1].lower() == "rate" else "write the five fields alone, without a year"
        raise CronError(f"{wrapped[1]}(...) is the form of another service; {remedy}.", position=position)
    if len(tokens) < 5 and _LIKE_A_DURATION.fullmatch(expression.strip().lower()):
        raise CronError(
            "This reads like an interval, not like a cron expression; give it as an interval.", position=position
        )
    if len(tokens) == 1 and f"@{first.lower()}" in MACROS:
        raise CronError(f"{first} needs an @: write @{first.lower()}.", position=position)


def unknown_macro(tokens: Sequence[Token]) -> CronError:
    """The refusal of a name with @ that is not accepted."""
    word, position = tokens[0]
    lower = word.lower()
    if lower == "@reboot":
        message = "@reboot means the start of a machine, and here is none; use an interval, or a single moment."
    elif lower == "@every":
        message = f"@every is an interval, not a cron expression; {_interval_remedy(tokens[1:])}."
    elif lower in ("@minutely", "@every_minute"):
        message = f"{word} is not known; write * * * * *."
    elif lower in ("@secondly", "@every_second"):
        message = f"{word} is not known; use an interval of 1 s."
    else:
        message = f"{word} is not known; use {', '.join(MACROS)} or five fields."
    return CronError(message, position=position)


def _interval_remedy(given: Sequence[Token]) -> str:
    text = given[0][0].lower() if len(given) == 1 else ""
    if not _GO_DURATION.fullmatch(text) or len(text) > 20:
        return "give it as an interval"
    total = sum(float(number) * _UNIT_MS[unit] for number, unit in _GO_PART.findall(text))
    return f"use an interval of {text} (baselineIntervalMs {total:.0f})"


def after_macro(word: str, token: Token) -> CronError:
    """The refusal of what follows a name with @."""
    what = "" if _LIKE_A_FIELD.fullmatch(token[0]) else " The URL of the endpoint says what is called."
    return CronError(f"{word} stands alone; remove what follows it.{what}", position=token[1])


def too_few(expression: str, tokens: Sequence[Token]) -> CronError:
    """The refusal of fewer than five fields."""
    return CronError(
        "Five fields are expected (minute, hour, day of month, month, day of week) "
        f"and only {len(tokens)} given; add the missing ones.",
        position=len(expression.rstrip()),
    )


def too_many(tokens: Sequence[Token], fits: Callable[[Sequence[Token]], bool]) -> CronError:
    """The refusal of more than five fields; `fits` tells whether five of them can be read."""
    texts = [text for text, _ in tokens]
    if texts[5].startswith("#"):
        return CronError("A comment follows the five fields; leave it out.", position=tokens[5][1])
    if len(tokens) == 6 and _LIKE_A_ZONE.fullmatch(texts[5]):
        return CronError(
            f"{texts[5]} names a zone; give the zone in the field timezone and leave it out here.",
            position=tokens[5][1],
        )
    if not _LIKE_A_FIELD.fullmatch(texts[5]):
        return CronError(
            "A command or user follows the five fields; leave it out: the URL of the endpoint says what is called.",
            position=tokens[5][1],
        )
    if len(tokens) == 6 and (_YEARS.fullmatch(texts[5]) or (fits(tokens[:5]) and not fits(tokens[1:]))):
        return CronError(
            f"The sixth field looks like a year; leave it out: {' '.join(texts[:5])}. "
            "startsAt and endsAt bound a schedule.",
            position=tokens[5][1],
        )
    if len(tokens) == 6:
        return CronError(_seconds_remedy(texts, fits(tokens[1:])), position=tokens[0][1])
    if len(tokens) == 7 and fits(tokens[1:6]):
        return CronError(
            "Seven fields are expected nowhere here: the first looks like seconds, the last like a year; "
            f"leave both out: {' '.join(texts[1:6])}. For seconds use an interval.",
            position=tokens[0][1],
        )
    return CronError(f"Five fields are expected and {len(tokens)} were given.", position=tokens[5][1])


def _seconds_remedy(texts: Sequence[str], rest_fits: bool) -> str:
    says = "The first field looks like seconds, which cron expressions here do not have"
    step = re.fullmatch(r"(?:\*|0|\*/([0-9]{1,4})|0/([0-9]{1,4}))", texts[0])
    seconds = None if step is None or texts[0] == "0" else int(step[1] or step[2] or 1)
    rest = " ".join(texts[1:])
    if seconds and set(texts[1:]) <= {"*", "?"}:
        return f"{says}; use an interval of {seconds} s."
    leave_out = f"leave it out: {rest}" if rest_fits else "leave it out"
    calls = f"; for calls every {seconds} s use an interval of {seconds} s" if seconds else ""
    return f"{says}; {leave_out}{calls}."


def out_of_range(field: CronField, text: str) -> str:
    """What to say of a number that the field does not have."""
    beyond = int(text) == field.highest_written + 1 or (field is WEEKDAY and int(text) in (8, 9))
    hint = f"; {field.low_word}" if beyond or int(text) < field.low else ""
    return f"The {field.title} is {field.low} to {field.highest_written}, not {text[:20]}{hint}."


def step_too_large(field: CronField, text: str) -> str:
    """What to say of a step beyond the field."""
    interval = f"; use an interval of {text} {field.unit}" if field is not MONTH and 0 < int(text) <= 9999 else ""
    return (
        f"A step of the {field.title} is 1 to {field.size}, not {text[:20]}: "
        f"steps start again in each {field.restarts}{interval}."
    )


def runs_backwards(field: CronField, span: str, low: int, high: int) -> str:
    """What to say of a range from a higher to a lower number: only weekdays may pass the end of their round."""
    names = {number: word for word, number in field.names.items()}
    first, last = names.get(field.low, str(field.low)), names.get(field.high, str(field.high))
    low_text, high_text = span.upper().split("-", 1)
    upper = low_text if low == field.high else f"{low_text}-{last}"
    lower = high_text if high == field.low else f"{first}-{high_text}"
    return f"The {field.title} range {span} runs backwards; write it upwards, as in {upper},{lower}."


def misfit(field: CronField, text: str) -> str:
    """What to say of a part of a field that is neither a number nor a name of it."""
    hint = _hint(field, text.upper()) or f"write {field.low} to {field.highest_written}, a range, a step or *"
    return f"{text} is not {field.article} {field.title}; {hint}."


def _hint(field: CronField, text: str) -> str | None:
    if "?" in text:
        return "? stands alone in its field" if field in (DAY, WEEKDAY) else "? is for the two day fields; write *"
    if re.fullmatch(r"H(\(.*\)?)?|[0-9-]+\)", text):
        return "H is a hash that other services have; write a number, and spread calls with jitterMs"
    if "~" in text or re.fullmatch(r"R(\(.*\)?)?", text):
        return "random times are not supported; write a number, and spread calls with jitterMs"
    if "#" in text:
        return "# is for the fifth field, as in MON#2 for the second Monday"
    if found := _name_of(text):
        name, home = found
        place = "fourth" if home is MONTH else "fifth"
        if home is field:
            return f"names have three letters: write {name}"
        return f"{name} is a {home.title}, which is the {place} field"
    if re.fullmatch(r"[0-9A-Z*/-]*[LW][0-9LW*/-]*", text):
        return _last_or_nearest_hint(field, text)
    if field.names and text.isalpha() and len(text) > 1:
        return f"names have three letters, {' '.join(field.names)}"
    return None


def _name_of(text: str) -> tuple[str, CronField] | None:
    """The name that a text is, or begins to spell out in English, and its field."""
    if not text.isalpha() or len(text) < 3:
        return None
    for full, home in (*((name, MONTH) for name in _FULL_MONTHS), *((name, WEEKDAY) for name in _FULL_WEEKDAYS)):
        if full.startswith(text) or (len(text) > 3 and full + "S" == text):
            return full[:3], home
    return None


def _last_or_nearest_hint(field: CronField, text: str) -> str | None:
    weekday = re.fullmatch(r"([0-7]|[A-Z]{3})L|L([0-7])", text)
    if field is DAY:
        if weekday and weekday[1]:
            return f"the last weekday of its kind is {text} in the fifth field, the last day of the month L"
        if text in ("W", "WL"):
            return "W follows a day, as in 15W; the last weekday of the month is LW"
        if re.fullmatch(r"L-[0-9]+W|LW-[0-9]+", text):
            return "W goes with one day or with L: write 15W or LW"
        if re.fullmatch(r"[0-9]+W", text):
            return "W follows a day of 1 to 31, as in 15W"
        if re.fullmatch(r"L-?[0-9]*", text):
            return "L is the last day, and L-1 to L-30 are the days before it"
        return "L and W take no range and no step; name each day, as in 1W,15W,L"
    if field is WEEKDAY:
        if weekday and weekday[2]:
            return f"the last weekday of its kind is written {weekday[2]}L"
        if weekday:
            return "L takes one weekday, without a range or a step"
        if "W" in text:
            return "W is for the day of month, the third field"
        return "L follows a weekday, as in FRIL; alone, and as L-3, it is for the day of month, the third field"
    return "L and W are for the two day fields"
