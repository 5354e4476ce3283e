"""Plain values and rules: no HTTP, no SQL, no key backend."""
