"""Key providers: who wraps and unwraps data keys. Knows nothing of the vault."""
