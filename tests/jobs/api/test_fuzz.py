"""Whatever is sent, the answer is never a 500."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.api import Api
from tests.support.factories import Cast

FIELDS = [
    *("name", "description", "isSynthetic", "endpoints", "url", "method", "headers", "body"),
    *(
        "timeoutMs",
        "maxResponseBytes",
        "successCriteria",
        "baselineIntervalMs",
        "baselineCron",
        "runOnceAt",
        "timezone",
        "startsAt",
    ),
    *(
        "endsAt",
        "jitterMs",
        "minIntervalMs",
        "maxIntervalMs",
        "recoveryCheckMs",
        "retryLimit",
        "misfireGraceMs",
        "onWorkerLoss",
        "plannerMode",
    ),
    *("rules", "status", "assertions", "path", "op", "value", "when", "then"),
]
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["https://example.com/", "* * * * *", "2030-01-01T00:00:00Z", "Europe/Berlin", "POST", "$.a", "auto"]
    ),
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=25,
)
ENDPOINTS = st.fixed_dictionaries(
    {},
    optional={"name": TEXTS, "url": TEXTS, "baselineIntervalMs": st.just(60_000), "headers": JSON, "rules": JSON}
    | {"successCriteria": JSON, "body": JSON, "startsAt": TEXTS, "baselineCron": TEXTS, "timezone": TEXTS},
)
JOBS = st.one_of(
    JSON, st.fixed_dictionaries({"name": TEXTS}, optional={"endpoints": st.lists(ENDPOINTS | JSON, max_size=3)})
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JOBS)
def test_creating_a_job_from_any_json_is_never_a_500(api: Api, cast: Cast, value: Any) -> None:
    status, body = api.send("POST", "/api/jobs", value)
    assert status in (201, 400, 403), body


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=200))
def test_creating_a_job_from_any_bytes_is_never_a_500(api: Api, raw: bytes) -> None:
    status, body = api.send("POST", "/api/jobs", raw)
    assert status in (201, 400), body
