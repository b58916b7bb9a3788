"""The scheduler worker and its threads."""
