"""The verbs: each parses its arguments, makes one call of the SDK, and returns the value."""
