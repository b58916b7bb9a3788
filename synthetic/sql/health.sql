-- One line per synthetic job over the last hour; canceled runs and those still under way do not count.
SELECT j.name AS job,
       count(r.id) AS total,
       count(r.id) FILTER (WHERE r.status = 'success') AS successful,
       round(100.0 * count(r.id) FILTER (WHERE r.status = 'success') / nullif(count(r.id), 0), 1) AS success_percent,
       round(avg(r.duration_ms)::numeric, 1) AS average_ms,
       max(r.started_at) AS last_run,
       coalesce(bool_or(r.started_at > now() - interval '5 minutes'), false) AS ran_recently
FROM jobs j
LEFT JOIN job_endpoints e ON e.job_id = j.id
LEFT JOIN runs r ON r.endpoint_id = e.id
    AND r.due_at > now() - interval '1 hour'
    AND r.status NOT IN ('running', 'canceled')
WHERE j.is_synthetic AND j.status <> 'archived'
GROUP BY j.id, j.name
ORDER BY j.name;
