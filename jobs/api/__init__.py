"""The REST API: JSON in camelCase, one error shape, everything below its owner."""
