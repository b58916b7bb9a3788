"""Who of the planner's parts set a hint or a pause, in words, and where each rule of the owner stands."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobs", "0007_server_wait_validated")]

    operations = [
        migrations.AddField("endpoint", "ai_hint_interval_author", models.CharField(max_length=600, null=True, editable=False)),
        migrations.AddField("endpoint", "ai_hint_next_run_author", models.CharField(max_length=600, null=True, editable=False)),
        migrations.AddField("endpoint", "pause_author", models.CharField(max_length=600, null=True, editable=False)),
        migrations.AddField("endpoint", "rules_state", models.JSONField(null=True, editable=False)),
    ]
