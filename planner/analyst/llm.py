"""The only importer of `openai`: one question to an OpenAI-compatible service, one answer or one named error."""

from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import httpx2
import openai
from openai.types.chat import ChatCompletion

from planner.analyst.conversation import Answer, ModelError, ToolCall
from planner.analyst.wire import Allowance, BoundedTransport

REQUEST_SECONDS = 20.0
MOST_ANSWER_BYTES = 2_000_000
MOST_COMPLETION_TOKENS = 1_000
LONGEST_RETRY_AFTER = 600.0
_REFUSING_STATUS = {401: "unauthorized", 403: "forbidden", 404: "not_found"}


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """Where the model is and how to reach it; an empty `base_url` means the client's default."""

    api_key: str
    base_url: str
    model: str


class Model:
    """A connection to the model for one analysis; a context manager, used by one thread."""

    def __init__(self, access: ModelAccess) -> None:
        self._access = access
        self._allowance = Allowance(seconds=REQUEST_SECONDS, most_bytes=MOST_ANSWER_BYTES)
        self._http = httpx2.Client(transport=BoundedTransport(self._allowance), follow_redirects=False)
        self._client = openai.OpenAI(
            api_key=access.api_key,
            base_url=access.base_url or "https://api.openai.com/v1",
            timeout=REQUEST_SECONDS,
            max_retries=0,
            http_client=self._http,
            default_headers={"Accept-Encoding": "identity"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    def ask(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]], *, seconds: float) -> Answer:
        """Asks once, without retries, and waits at most `seconds` and 20 s. Raises ModelError."""
        self._allowance.renew(seconds)
        try:
            completion: Any = self._client.chat.completions.create(
                model=self._access.model,
                messages=list(messages),  # type: ignore[arg-type]
                tools=list(tools),  # type: ignore[arg-type]
                max_completion_tokens=MOST_COMPLETION_TOKENS,
            )
            return _read(completion)
        except openai.APIStatusError as error:
            raise _status_error(error) from error
        except openai.APITimeoutError as error:
            raise ModelError("timeout", "The model did not answer in time.", passing=True) from error
        except openai.APIConnectionError as error:
            said = f"The connection failed: {error.__cause__}"[:300]
            raise ModelError("connection_failed", said, passing=True) from error
        except ModelError:
            raise
        except Exception as error:
            raise ModelError("malformed_answer", f"The answer cannot be read: {type(error).__name__}") from error


def _status_error(error: openai.APIStatusError) -> ModelError:
    status = error.status_code
    if status in _REFUSING_STATUS:
        return ModelError(_REFUSING_STATUS[status], f"The service answered {status}.", hopeless=True)
    if status == 429:
        return ModelError("rate_limited", "The service answered 429.", retry_after=_retry_after(error.response))
    retry_after = _retry_after(error.response)
    kind = "server_error" if status >= 500 else "request_refused"
    passing = status >= 500 and retry_after is None
    return ModelError(kind, f"The service answered {status}.", passing=passing, retry_after=retry_after)


def _retry_after(response: httpx2.Response) -> float | None:
    """Seconds that the service asks to wait (RFC 9110, 10.2.3); a date counts from the service's own."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(float(text), LONGEST_RETRY_AFTER)
    try:
        until, sent = parsedate_to_datetime(text), parsedate_to_datetime(response.headers.get("date", ""))
        return min(max((until - sent).total_seconds(), 0.0), LONGEST_RETRY_AFTER)
    except (ValueError, TypeError, OverflowError):
        return None


def _read(completion: Any) -> Answer:
    if not isinstance(completion, ChatCompletion) or not completion.choices:
        raise ModelError("malformed_answer", "The service answered something else than a chat completion.")
    choice = completion.choices[0]
    calls = tuple(
        ToolCall(str(call.id), str(call.function.name), str(call.function.arguments))
        for call in choice.message.tool_calls or ()
        if call.type == "function"
    )
    usage = completion.usage
    return Answer(
        text=str(choice.message.content or ""),
        calls=calls,
        cut=choice.finish_reason == "length",
        refused=bool(choice.message.refusal) or choice.finish_reason == "content_filter",
        prompt_tokens=_count(usage.prompt_tokens) if usage else None,
        completion_tokens=_count(usage.completion_tokens) if usage else None,
    )


def _count(value: object) -> int | None:
    """A count of tokens that can be believed; None for anything else than a sensible whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else None
