"""Sections of a report, one kind of source a file: ``section(sources)`` gives one, or None without such sources."""
