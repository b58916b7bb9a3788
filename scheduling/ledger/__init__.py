"""The set-based SQL of the workers: claims, leases, the start gate, settlement."""
