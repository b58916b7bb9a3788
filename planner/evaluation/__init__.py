"""Offline evaluation: a world played on a virtual clock, with and without a planner, through the real rules of both."""
