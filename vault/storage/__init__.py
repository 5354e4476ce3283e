"""SQL only: tables, whole-operation stores, schema upgrades."""
