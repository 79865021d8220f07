"""From the MLflow store to tables, statistics and plots."""
