"""Which destinations may be called. Pure."""
