"""All results in one table, and what is counted in it."""
