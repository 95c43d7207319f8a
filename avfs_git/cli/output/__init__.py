"""Where results go: text for people, or one JSON document."""
