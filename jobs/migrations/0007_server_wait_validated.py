from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    """Checks the rows that were there before; reads and writes go on meanwhile."""

    dependencies = [("jobs", "0006_server_wait_runs")]

    operations = [
        *(
            ValidateConstraint(model_name="endpoint", name=name)
            for name in (
                "endpoint_source_is_known",
                "endpoint_recovery_check_in_range",
                "endpoint_server_wait_is_whole",
                "endpoint_failing_since_in_calendar",
                "endpoint_server_wait_since_in_calendar",
                "endpoint_server_wait_until_in_calendar",
            )
        ),
        ValidateConstraint(model_name="run", name="run_source_is_known"),
    ]
