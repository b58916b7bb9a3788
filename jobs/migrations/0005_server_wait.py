import datetime

from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models

CALENDAR = (
    datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc),
    datetime.datetime(2300, 1, 1, tzinfo=datetime.timezone.utc),
)
SOURCES = ['baseline-interval', 'baseline-cron', 'run-once', 'ai-interval', 'ai-oneshot', 'clamped-min', 'clamped-max', 'paused', 'server-asked', 'retry', 'manual']


def in_calendar(column):
    return AddConstraintNotValid(
        model_name="endpoint",
        constraint=models.CheckConstraint(
            condition=models.Q(**{f"{column}__isnull": True}) | models.Q(**{f"{column}__range": CALENDAR}),
            name=f"endpoint_{column}_in_calendar",
        ),
    )


class Migration(migrations.Migration):
    """Adds what a server asked for, since when an endpoint has been failing, and the bound on recovery.

    Constraints are checked for new rows only, so that the table is locked for a moment; 0007_server_wait_validated
    checks the rest.
    """

    dependencies = [("jobs", "0004_responses_and_written_text")]

    operations = [
        migrations.AddField("endpoint", "recovery_check_ms", models.BigIntegerField(blank=True, null=True)),
        migrations.AddField("endpoint", "failing_since", models.DateTimeField(editable=False, null=True)),
        migrations.AddField("endpoint", "server_wait_since", models.DateTimeField(editable=False, null=True)),
        migrations.AddField("endpoint", "server_wait_until", models.DateTimeField(editable=False, null=True)),
        migrations.AddField(
            "endpoint", "server_wait_reason", models.CharField(editable=False, max_length=200, null=True)
        ),
        migrations.RemoveConstraint("endpoint", "endpoint_source_is_known"),
        AddConstraintNotValid(
            model_name="endpoint",
            constraint=models.CheckConstraint(
                condition=models.Q(next_source__isnull=True) | models.Q(next_source__in=SOURCES),
                name="endpoint_source_is_known",
            ),
        ),
        AddConstraintNotValid(
            model_name="endpoint",
            constraint=models.CheckConstraint(
                condition=models.Q(recovery_check_ms__isnull=True)
                | models.Q(recovery_check_ms__range=(1_000, 31_622_400_000)),
                name="endpoint_recovery_check_in_range",
            ),
        ),
        AddConstraintNotValid(
            model_name="endpoint",
            constraint=models.CheckConstraint(
                condition=models.Q(server_wait_since__isnull=True, server_wait_until__isnull=True)
                | models.Q(server_wait_since__isnull=False, server_wait_until__isnull=False),
                name="endpoint_server_wait_is_whole",
            ),
        ),
        in_calendar("failing_since"),
        in_calendar("server_wait_since"),
        in_calendar("server_wait_until"),
    ]
