"""Adapters for frameworks: one module each, which needs its own extra's packages and which nothing else imports."""
