"""Work in the background: jobs in batches under a lease, on any number of processes."""
