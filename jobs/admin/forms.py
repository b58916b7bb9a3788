"""The forms of jobs and endpoints. They read what a person typed; what may be is for `jobs.authoring` to say."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.db.models import Case, QuerySet, When
from django.urls import reverse_lazy
from django.utils.text import format_lazy
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from accounts.models import User
from jobs.admin.fields import DurationField, ExactText, HeadersField, JsonText, UtcField
from jobs.admin.service import ServiceForm
from jobs.authoring import create_endpoint, create_job, edit_endpoint, edit_job, egress_policy
from jobs.errors import Fault, InvalidInputError, Unreadable
from jobs.models import BaselineKind, Endpoint, Job, JobStatus, PlannerMode, WorkerLossPolicy
from jobs.models.endpoint import Method
from jobs.selectors import current_time
from jobs.validation import clean_endpoint, clean_job

BASELINE_FIELDS = {
    BaselineKind.INTERVAL: "baseline_interval_ms",
    BaselineKind.CRON: "baseline_cron",
    BaselineKind.ONCE: "run_once_at",
}


def jobs_to_choose(user: User) -> QuerySet[Job]:
    """The jobs that a new endpoint may join: the person's own first, for an operator then everybody's."""
    jobs = Job.objects.exclude(status=JobStatus.ARCHIVED).select_related("owner")
    if not user.is_superuser:
        return jobs.filter(owner=user.pk).order_by("name")
    foreign = Case(When(owner=user.pk, then=0), default=1)
    return jobs.order_by(foreign, "owner__email", "name")


class JobField(forms.ModelChoiceField):  # type: ignore[type-arg]
    """A job by its name; of somebody else's the owner is told too."""

    user: User | None = None

    def label_from_instance(self, obj: Job) -> str:
        """The name, and whose it is where it is not the person's own."""
        own = self.user is None or obj.owner_id == self.user.pk
        return obj.name if own else f"{obj.name} (of {obj.owner.email})"


class JobForm(ServiceForm):
    """Name and description."""

    name = forms.CharField(max_length=255, widget=UnfoldAdminTextInputWidget(attrs={"autofocus": True}))
    description = forms.CharField(required=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}))

    class Meta:
        model = Job
        fields: tuple[str, ...] = ()

    def further_faults(self) -> Sequence[Fault]:
        """Those of name and description."""
        try:
            clean_job({name: self.read_value(name) for name in ("name", "description")}, creating=False)
        except InvalidInputError as error:
            return error.faults
        return ()

    def write(self, *, change: bool) -> Job:
        """Creates or edits the job."""
        values = {name: self.cleaned_data[name] for name in ("name", "description")}
        if change:
            return edit_job(job_id=self.instance.pk, changes=values)
        return create_job(owner=self.request.user, values=values)  # type: ignore[arg-type]


class EndpointForm(ServiceForm):
    """Everything that a person may set on an endpoint."""

    job = JobField(
        queryset=Job.objects.none(),
        widget=UnfoldAdminSelectWidget,
        empty_label="Choose a job",
        help_text=format_lazy(
            'Or <a class="cc-link" href="{}">make a new job</a>.', reverse_lazy("admin:jobs_job_add")
        ),
    )
    name = forms.CharField(max_length=255, widget=UnfoldAdminTextInputWidget)
    description = forms.CharField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="In plain words: what matters here, which values are alarming. The planner reads it.",
    )
    method = forms.ChoiceField(choices=Method.choices, widget=UnfoldAdminSelectWidget)
    url = forms.CharField(
        max_length=2048,
        label="URL",
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "https://example.com/health", "inputmode": "url"}),
    )
    headers = HeadersField(required=False, help_text="Secret values are kept encrypted and are never shown again.")
    body = ExactText(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4, "class": "cc-code", "spellcheck": "false"}),
        help_text="Sent byte for byte, with LF line ends, for the methods that carry a body.",
    )
    timeout_ms = DurationField(label="Timeout", help_text="A deadline for the whole call: 1 s to 15 min.")
    max_response_bytes = forms.IntegerField(
        label="Response kept", widget=UnfoldAdminIntegerFieldWidget, help_text="In bytes, at most 1048576."
    )
    success_criteria = JsonText(
        rows=3,
        required=False,
        label="Success when",
        placeholder='{"status": ["200-299"]}',
        help_text="Empty: any status from 200 to 299.",
    )

    baseline_kind = forms.ChoiceField(
        label="Runs",
        choices=[("interval", "At an interval"), ("cron", "By a cron expression"), ("once", "Once")],
        widget=UnfoldAdminRadioSelectWidget(radio_style=1),
    )
    baseline_interval_ms = DurationField(
        label="Every", required=False, help_text="From 1 s, with its unit: 30 s, 5 min, 1 h 30 min."
    )
    baseline_cron = forms.CharField(
        label="Cron expression",
        required=False,
        max_length=255,
        widget=UnfoldAdminTextInputWidget(
            attrs={"placeholder": "*/5 * * * *", "class": "cc-code", "spellcheck": "false"}
        ),
        help_text="Five fields: minute, hour, day of month, month, weekday; or @hourly, @daily, @weekly, @monthly.",
    )
    timezone = forms.CharField(
        label="Time zone",
        required=False,
        max_length=64,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "UTC", "list": "cc-zones", "autocomplete": "off"}),
        help_text="An IANA name, as Europe/Berlin. A cron expression is read in it; an interval of whole days with a "
        "start keeps its time of day in it.",
    )
    run_once_at = UtcField(label="At (UTC)", required=False)
    starts_at = UtcField(
        label="Not before (UTC)", required=False, help_text="An interval counts from here: this is its first slot."
    )
    ends_at = UtcField(label="Not after (UTC)", required=False)
    jitter_ms = DurationField(
        label="Spread over", required=False, help_text="Starts each slot later by a fixed part of this, at most 24 h."
    )

    min_interval_ms = DurationField(label="Never more often than", required=False, help_text="A bound for hints.")
    max_interval_ms = DurationField(
        label="Never less often than", required=False, help_text="A bound for hints and for back-off after failures."
    )
    recovery_check_ms = DurationField(
        label="While failing, look again within",
        required=False,
        help_text="How far back-off may stretch an interval. Empty: not at all, so it goes on at the interval itself.",
    )
    retry_limit = forms.IntegerField(
        label="Retries", widget=UnfoldAdminIntegerFieldWidget, help_text="Attempts after a failure, 0 to 10."
    )
    misfire_grace_ms = DurationField(
        label="Skip a slot when later than", required=False, help_text="Empty: a late slot still runs, once."
    )
    on_worker_loss = forms.ChoiceField(
        label="When a worker is lost in a call",
        choices=[(WorkerLossPolicy.RETRY, "Repeat the call"), (WorkerLossPolicy.SKIP, "Skip to the next slot")],
        widget=UnfoldAdminSelectWidget,
    )

    planner_mode = forms.ChoiceField(
        choices=[
            (PlannerMode.OFF, "Off: the planner never looks"),
            (PlannerMode.SHADOW, "Shadow: it proposes, nothing is applied"),
            (PlannerMode.APPROVE, "Approve: applied when you say so"),
            (PlannerMode.AUTO, "Auto: applied at once, inside the bounds"),
        ],
        widget=UnfoldAdminSelectWidget,
    )
    rules = JsonText(
        rows=6,
        required=False,
        placeholder='[{"when": {"path": "$.queue_depth", "op": ">", "value": 100},'
        ' "then": {"interval_ms": 30000, "ttl_minutes": 30}}]',
        help_text="Your own rules. They need no model, and outrank it.",
    )

    class Meta:
        model = Endpoint
        fields: tuple[str, ...] = ()

    class Media:
        js = ("cronicorn/endpoint-form.js",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        user: Any = self.request.user
        headers: Any = self.fields["headers"]
        headers.widget.holder = str(user.pk)
        if self.instance.pk and not self.instance._state.adding:
            del self.fields["job"]
            return
        choices: Any = self.fields["job"]
        choices.queryset, choices.user = jobs_to_choose(user), user
        defaults = {"baseline_kind": "interval", "baseline_interval_ms": 300_000, "timezone": "UTC"}
        columns = ("method", "timeout_ms", "max_response_bytes", "retry_limit", "on_worker_loss", "planner_mode")
        self.initial = {**defaults, **self.initial_of(Endpoint(), columns), **self.initial}

    def initial_of(self, instance: Any, names: tuple[str, ...] | None = None) -> dict[str, Any]:
        """The columns; the values of secret headers stay where they are."""
        initial = {name: getattr(instance, name) for name in names or self.base_fields if hasattr(instance, name)}
        if names:
            return initial
        written = {name: instance.as_written(name) for name in ("rules", "success_criteria")}
        return initial | written | {"baseline_kind": instance.baseline_kind.value}

    def write(self, *, change: bool) -> Endpoint:
        """Creates the endpoint, or edits what differs."""
        if not change:
            return create_endpoint(job_id=self.cleaned_data["job"].pk, values=self._values())
        return edit_endpoint(endpoint_id=self.instance.pk, changes=self._values())

    def further_faults(self) -> Sequence[Fault]:
        """Those of the request, the schedule and all else, as the service judges it."""
        adding = "job" in self.fields
        job = self.cleaned_data.get("job") if adding else self.instance.job
        try:
            clean_endpoint(
                self._values(),
                current=None if adding else self.instance,
                synthetic=job is not None and job.is_synthetic,
                egress=egress_policy(),
                now=current_time(),
            )
        except InvalidInputError as error:
            return error.faults
        return ()

    def _values(self) -> dict[str, Any]:
        """The columns as typed, of an existing endpoint what differs; another baseline replaces the old one."""
        values = {name: self.read_value(name) for name in self.fields if name not in ("job", "baseline_kind")}
        kind = self.read_value("baseline_kind")
        for other, column in BASELINE_FIELDS.items():
            if isinstance(kind, Unreadable):
                values[column] = kind
            elif other != kind:
                values[column] = None
        for name, empty in (("timezone", "UTC"), ("jitter_ms", 0), ("rules", []), ("body", None)):
            values[name] = values[name] or empty
        if "job" in self.fields:
            return values
        changed = {*self.changed_data, *(BASELINE_FIELDS.values() if "baseline_kind" in self.changed_data else ())}
        return {name: value for name, value in values.items() if name in changed}

    def clean(self) -> dict[str, Any]:
        """The chosen kind of baseline must be given."""
        cleaned = super().clean() or self.cleaned_data
        column = BASELINE_FIELDS.get(cleaned.get("baseline_kind", ""))
        if column and column not in self.errors and not cleaned.get(column):
            self.add_error(column, "This is needed.")
        return cleaned
