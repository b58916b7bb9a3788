"""Endpoints whose owner is deactivated have no plan, whatever statement deactivates the owner."""

from django.conf import settings
from django.db import migrations, models

DEACTIVATED = """jsonb_build_object('run_at', NULL, 'slot_at', NULL, 'source', NULL, 'attempt', 1,
        'sentence', 'Nothing is due: its owner is deactivated.', 'candidates', '[]'::jsonb, 'inputs', '{}'::jsonb)"""
# What was counted of uncalled slots is for the next run to tell of, as where an endpoint is stopped.
COUNTED = """CASE WHEN next_decision #> '{uncalled,counts}' IS NOT NULL THEN jsonb_build_object('uncalled',
        jsonb_build_object('after', next_decision #> '{uncalled,after}', 'counts', next_decision #> '{uncalled,counts}',
        'through', next_decision #> '{uncalled,through}', 'stopped', true)) ELSE '{}' END"""
NO_PLAN = f"""owner_active = false, next_run_at = NULL, next_slot_at = NULL, next_attempt = 1, next_source = NULL,
        next_decision = {DEACTIVATED} || {COUNTED}, lane = ''"""

# Rows are locked in the order of their ids, as all other writers lock them. An activation only wakes the schedulers,
# since a plan can only be made by the governor.
USERS_TRIGGER = f"""
CREATE FUNCTION follow_owner_active() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.is_active THEN
        PERFORM pg_notify('cronicorn_schedule', '');
    ELSE
        PERFORM 1 FROM job_endpoints WHERE owner_id = NEW.id ORDER BY id FOR NO KEY UPDATE;
        UPDATE job_endpoints SET {NO_PLAN} WHERE owner_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER users_is_active AFTER UPDATE OF is_active ON users FOR EACH ROW
    WHEN (OLD.is_active IS DISTINCT FROM NEW.is_active) EXECUTE FUNCTION follow_owner_active();
"""
# The lock on the owner makes a deactivation at the same moment wait, or is answered with its result.
ENDPOINTS_TRIGGER = """
CREATE FUNCTION read_owner_active() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT is_active INTO NEW.owner_active FROM users WHERE id = NEW.owner_id FOR SHARE;
    NEW.owner_active := COALESCE(NEW.owner_active, true);
    RETURN NEW;
END $$;
CREATE TRIGGER endpoints_owner_active BEFORE INSERT ON job_endpoints FOR EACH ROW
    EXECUTE FUNCTION read_owner_active();
"""
ALREADY_DEACTIVATED = f"""
UPDATE job_endpoints SET {NO_PLAN} WHERE owner_id IN (SELECT id FROM users WHERE NOT is_active)
"""


class Migration(migrations.Migration):

    dependencies = [
        ("jobs", "0008_hint_authors"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField("endpoint", "owner_active", models.BooleanField(db_default=True, editable=False)),
        migrations.AddIndex(
            "endpoint",
            models.Index(
                fields=["owner"], condition=models.Q(owner_active=False), name="endpoints_of_inactive_owners"
            ),
        ),
        migrations.RunSQL(
            USERS_TRIGGER, "DROP TRIGGER users_is_active ON users; DROP FUNCTION follow_owner_active()"
        ),
        migrations.RunSQL(
            ENDPOINTS_TRIGGER,
            "DROP TRIGGER endpoints_owner_active ON job_endpoints; DROP FUNCTION read_owner_active()",
        ),
        migrations.RunSQL(ALREADY_DEACTIVATED, migrations.RunSQL.noop),
    ]
