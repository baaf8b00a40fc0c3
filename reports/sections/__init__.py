"""Sections of a report, one kind of source a file: ``section(sources)`` gives a section, or None without such sources."""
