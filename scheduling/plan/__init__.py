"""When an endpoint runs next and why. Pure."""
