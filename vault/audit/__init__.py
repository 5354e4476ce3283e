"""The access log: what an event is and the frozen bytes it leaves behind."""
