"""Join the facts of several files into runs: links, library defaults, catalog look-ups, jobs."""
