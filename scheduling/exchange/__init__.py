"""What a call is, what came of it, and whether that is a success. Pure."""
