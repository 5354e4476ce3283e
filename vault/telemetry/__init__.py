"""What the processes say of themselves: events as lines of a log, and numbers. Knows nothing of the other rooms."""
