"""What everything with a fit shares: running a fit, its record, parameters, saving, loading."""
