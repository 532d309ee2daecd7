"""From a sweep's results to evidence: load them, compare arms, draw figures, write the report."""
