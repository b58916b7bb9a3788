"""Form fields of the console: durations with units, instants in UTC, JSON, and header rows whose values stay hidden."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.signing import BadSignature, TimestampSigner
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from accounts.vault import SecretUnavailableError, seal, unseal
from jobs.written import MalformedJsonError, read_json, text_of
from scheduling.exchange.public_headers import PUBLIC_HEADERS

_UNITS_MS = {"ms": 1, "s": 1_000, "sec": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = re.compile(r"\s*(\d{1,12})\s*(ms|sec|s|min|m|h|d)(?![a-z])\s*,?", re.IGNORECASE)
_SPARE_ROWS = 2
_ROW_LIMIT = 60
_LENGTH_LIMIT = 80
TYPED_KEPT_FOR = timedelta(hours=1)
_TYPED = "typed-header"
_TOO_OLD = "The value that you typed is no longer kept. Type it again."
_NOT_OPENLY = "Type the value again to keep it openly."


def parse_duration_ms(text: str) -> int:
    """Reads `90 s`, `5 min`, `1h 30m`, `1500ms`. Raises ValueError for anything else, a number without unit too."""
    total, position = 0, 0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            raise ValueError("Give a duration with its unit, as 30 s, 5 min or 1 h 30 min.")
        total += int(part[1]) * _UNITS_MS[part[2].lower()]
        position = part.end()
    if not text.strip():
        raise ValueError("Give a duration.")
    return total


def format_duration_ms(milliseconds: int) -> str:
    """The duration in a form that `parse_duration_ms` reads back to the same number."""
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts) or "0 s"


class DurationField(forms.CharField):
    """Milliseconds, written as a duration with units; None when empty."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("widget", UnfoldAdminTextInputWidget(attrs={"placeholder": "5 min", "autocomplete": "off"}))
        super().__init__(**kwargs)

    def prepare_value(self, value: Any) -> Any:
        """A stored number as text; what was typed stays as typed."""
        return format_duration_ms(value) if isinstance(value, int) else value

    def to_python(self, value: Any) -> Any:
        """The milliseconds."""
        text = super().to_python(value)
        if not text:
            return None
        try:
            return parse_duration_ms(str(text)[:_LENGTH_LIMIT])
        except ValueError as error:
            raise ValidationError(str(error)) from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether another number is meant, however it is written."""
        try:
            return bool(self.to_python(data) != initial)
        except ValidationError:
            return True


class UtcField(forms.CharField):
    """An instant in UTC from the browser's own date and time input; None when empty."""

    def __init__(self, **kwargs: Any) -> None:
        widget = UnfoldAdminTextInputWidget(attrs={"type": "datetime-local", "step": "1"})
        widget.input_type = "datetime-local"
        super().__init__(widget=widget, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        """A stored instant as the input wants it."""
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S") if isinstance(value, datetime) else value

    def to_python(self, value: Any) -> Any:
        """The aware instant."""
        text = super().to_python(value)
        if not text:
            return None
        try:
            instant = datetime.fromisoformat(str(text)[:_LENGTH_LIMIT])
            return instant.replace(tzinfo=UTC) if instant.utcoffset() is None else instant.astimezone(UTC)
        except (ValueError, OverflowError):
            raise ValidationError("Give a date and a time, as 2030-01-31T09:00.") from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether another second is meant: the input shows no fractions, and must not cut those of the row."""
        try:
            value = self.to_python(data)
        except ValidationError:
            return True
        return bool(value != (initial.replace(microsecond=0) if isinstance(initial, datetime) else initial))


class JsonText(forms.CharField):
    """JSON written by hand; None when empty. What it may contain is for the service to say."""

    def __init__(self, *, rows: int, placeholder: str, **kwargs: Any) -> None:
        attrs = {"rows": rows, "placeholder": placeholder, "class": "cc-code", "spellcheck": "false"}
        super().__init__(widget=UnfoldAdminTextareaWidget(attrs=attrs), **kwargs)

    def prepare_value(self, value: Any) -> Any:
        """A stored value as it was written, else indented; nothing for null and the empty list."""
        if value is None or value == []:
            return ""
        if (text := text_of(value)) is not None:
            return text
        return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)

    def to_python(self, value: Any) -> Any:
        """The value."""
        text = super().to_python(value)
        if not text:
            return None
        try:
            return read_json(_with_plain_lines(str(text)))
        except MalformedJsonError as error:
            raise ValidationError(f"This is not JSON: {str(error)[:120]}") from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether another text is given; where only the value is stored, another value."""
        if (known := text_of(initial)) is not None and initial:
            return _with_plain_lines(known).strip() != _with_plain_lines(str(data or "")).strip()
        try:
            return bool((self.to_python(data) or None) != (initial or None))
        except ValidationError:
            return True


class ExactText(forms.CharField):
    """A text that is kept as it is. Line ends are LF, since browsers send CRLF whatever was typed."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(strip=False, **kwargs)

    def to_python(self, value: Any) -> Any:
        """The text."""
        return _with_plain_lines(str(super().to_python(value) or ""))

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether another text is given: a browser gives one back with other line ends, which changes nothing."""
        return _with_plain_lines(initial or "") != _with_plain_lines(data or "")


def _with_plain_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


class HeadersWidget(forms.Widget):
    """Rows of name, value and "secret". A secret value is never written into the page in clear.

    One that was typed into a form that was then refused goes back encrypted, in a field of its own, so that it need not
    be typed again: for an hour, and for `holder` alone, who is the person at the form. A new
    row is secret until it is given the name of a header whose value is not secret by nature.
    """

    template_name = "jobs/headers.html"
    holder = ""

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        """The rows, and two empty ones to fill in."""
        rows = [
            {**row, "kept": self._wrap(row["value"]) if row["secret"] and row["value"] else ""} for row in value or []
        ]
        empty = [{"name": "", "value": "", "secret": True} for _ in range(_SPARE_ROWS)]
        context: dict[str, Any] = super().get_context(name, value, attrs)
        context["rows"] = [{**row, "number": number} for number, row in enumerate([*rows, *empty])]
        context["public_headers"] = " ".join(sorted(PUBLIC_HEADERS))
        return context

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[dict[str, Any]]:
        """The rows with a name; an empty value of a secret one is what was typed before, else None: it stays stored.

        A row whose value was typed before and cannot be had says why in `lost`.
        """
        rows = []
        for number in range(_ROW_LIMIT):
            header = (data.get(f"{name}-{number}-name") or "").strip()
            value = data.get(f"{name}-{number}-value") or ""
            kept = data.get(f"{name}-{number}-kept") or ""
            secret = f"{name}-{number}-secret" in data
            if not header and not value:
                continue
            row: dict[str, Any] = {"name": header, "value": None if secret and not value else value, "secret": secret}
            if kept and not value:
                typed = self._unwrap(kept) if secret else None
                if typed is None:
                    row["lost"] = _TOO_OLD if secret else _NOT_OPENLY
                else:
                    row["value"] = typed
            rows.append(row)
        return rows

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        """Never: no rows are a meaning too."""
        return False

    def _wrap(self, value: str) -> str:
        return TimestampSigner(salt=_TYPED).sign(seal(f"{_TYPED}:{self.holder}", value))

    def _unwrap(self, kept: str) -> str | None:
        """What was typed; None where the text is too old, another person's or not ours."""
        try:
            sealed = TimestampSigner(salt=_TYPED).unsign(kept, max_age=TYPED_KEPT_FOR)
            return str(unseal(f"{_TYPED}:{self.holder}", sealed))
        except (BadSignature, SecretUnavailableError):
            return None


class HeadersField(forms.Field):
    """Request headers as the service takes them."""

    widget = HeadersWidget

    def clean(self, value: Any) -> Any:
        """The rows. Raises ValidationError where a value that was typed before cannot be had."""
        lost = [f"{row['name']}: {row['lost']}" for row in value if "lost" in row]
        if lost:
            raise ValidationError(lost)
        return value

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether a row differs from what is stored, or brings a new secret."""
        return bool(list(initial or []) != list(data or []))
