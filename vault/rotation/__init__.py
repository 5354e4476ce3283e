"""Background jobs over keys and records. The first of them comes with rotation."""
