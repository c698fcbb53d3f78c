"""From scores to what a person reads: table, `metrics.json`, `report.html`, comparison of several runs."""
