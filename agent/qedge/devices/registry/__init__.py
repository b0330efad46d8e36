"""Which devices there are: one record in memory and one row in the database for each."""
