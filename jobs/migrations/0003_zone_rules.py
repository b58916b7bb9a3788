"""The zone rules by which plans are made."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobs", "0002_uncalled_slots")]

    operations = [
        migrations.CreateModel(
            name="ZoneRules",
            fields=[
                ("id", models.SmallIntegerField(primary_key=True, serialize=False)),
                ("version", models.CharField(db_default="", max_length=32)),
                ("through", models.UUIDField(null=True)),
                ("swept_at", models.DateTimeField(null=True)),
                ("replanned", models.IntegerField(db_default=0)),
                ("moved", models.IntegerField(db_default=0)),
                ("unreadable", models.IntegerField(db_default=0)),
            ],
            options={
                "db_table": "zone_rules",
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="zone_rules_is_one_row")],
            },
        ),
    ]
