"""Columns for the owner's JSON as it was written, and for what rules found in a body before it was masked."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0003_zone_rules"),
    ]

    operations = [
        migrations.AddField(
            model_name="endpoint",
            name="rules_text",
            field=models.TextField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="endpoint",
            name="success_criteria_text",
            field=models.TextField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="runresponse",
            name="rule_verdicts",
            field=models.JSONField(null=True),
        ),
    ]
