"""Cron expressions in zones: when their slots are. Pure."""
