"""The table `zone_rules`."""

from django.db import models
from django.db.models import Q


class ZoneRules(models.Model):
    """The one row that says by which zone rules plans are made, and how far the search for older ones has come.

    `version` is that of the newest process that ever looked. `through` is the last endpoint that was looked at;
    `swept_at` says when the search came to its end, null while it is under way. The counts are those of one search.
    """

    id = models.SmallIntegerField(primary_key=True)
    version = models.CharField(max_length=32, db_default="")
    through = models.UUIDField(null=True)
    swept_at = models.DateTimeField(null=True)
    replanned = models.IntegerField(db_default=0)
    moved = models.IntegerField(db_default=0)
    unreadable = models.IntegerField(db_default=0)

    class Meta:
        db_table = "zone_rules"
        constraints = [models.CheckConstraint(condition=Q(id=1), name="zone_rules_is_one_row")]

    def __str__(self) -> str:
        return self.version
