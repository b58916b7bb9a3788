"""Every address below /api/ that concerns jobs, endpoints, runs and keys. No address ends with a slash."""

from django.urls import path

from jobs.api import endpoints, jobs, keys, runs, schema, signing_keys, steering

urlpatterns = [
    path("jobs", jobs.JobsView.as_view()),
    path("jobs/<uuid:job_id>", jobs.JobView.as_view()),
    path("jobs/<uuid:job_id>/pause", jobs.PauseJobView.as_view()),
    path("jobs/<uuid:job_id>/resume", jobs.ResumeJobView.as_view()),
    path("jobs/<uuid:job_id>/endpoints", endpoints.EndpointsView.as_view()),
    path("jobs/<uuid:job_id>/endpoints/<uuid:endpoint_id>", endpoints.EndpointView.as_view()),
    path("jobs/<uuid:job_id>/endpoints/<uuid:endpoint_id>/archive", endpoints.ArchiveEndpointView.as_view()),
    path("endpoints/<uuid:endpoint_id>/hints/interval", steering.IntervalHintView.as_view()),
    path("endpoints/<uuid:endpoint_id>/hints/oneshot", steering.OneShotHintView.as_view()),
    path("endpoints/<uuid:endpoint_id>/hints", steering.HintsView.as_view()),
    path("endpoints/<uuid:endpoint_id>/pause", steering.PauseEndpointView.as_view()),
    path("endpoints/<uuid:endpoint_id>/run", steering.RunNowView.as_view()),
    path("endpoints/<uuid:endpoint_id>/reset-failures", steering.ResetFailuresView.as_view()),
    path("endpoints/<uuid:endpoint_id>/schedule", runs.ScheduleView.as_view()),
    path("endpoints/<uuid:endpoint_id>/runs", runs.RunsView.as_view()),
    path("endpoints/<uuid:endpoint_id>/health", endpoints.EndpointHealthView.as_view()),
    path("schedule/preview", runs.PreviewView.as_view()),
    path("runs/<uuid:run_id>", runs.RunView.as_view()),
    path("api-keys", keys.ApiKeysView.as_view()),
    path("api-keys/<uuid:key_id>", keys.ApiKeyView.as_view()),
    path("signing-keys", signing_keys.SigningKeysView.as_view()),
    path("signing-keys/rotate", signing_keys.RotateSigningKeyView.as_view()),
    path("schema", schema.SchemaView.as_view()),
    path("docs", schema.docs),
]
