from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models

SOURCES = ['baseline-interval', 'baseline-cron', 'run-once', 'ai-interval', 'ai-oneshot', 'clamped-min', 'clamped-max', 'paused', 'server-asked', 'retry', 'manual']


class Migration(migrations.Migration):
    """Lets runs have the source `server-asked`; in a transaction of its own, so that one table is locked at a time."""

    dependencies = [("jobs", "0005_server_wait")]

    operations = [
        migrations.RemoveConstraint("run", "run_source_is_known"),
        AddConstraintNotValid(
            model_name="run",
            constraint=models.CheckConstraint(condition=models.Q(source__in=SOURCES), name="run_source_is_known"),
        ),
    ]
