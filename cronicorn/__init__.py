"""The project: what every process starts from. Importing it decides which zone rules the process uses."""

from cronicorn.runtime.zonedata import use_packaged_rules

# Here, because settings, gunicorn, management commands and tests all import this package first.
use_packaged_rules()
