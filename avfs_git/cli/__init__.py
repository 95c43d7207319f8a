"""The command line: one file a verb, results as text for people or as one JSON document for programs."""
