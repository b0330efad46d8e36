"""The ledger of jobs across nodes: leases, epochs, records that outlive a node, and results that count once."""
