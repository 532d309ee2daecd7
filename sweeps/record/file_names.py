"""The names of the files in a sweep's folder."""

SPACE, JOURNAL = "sweep.yaml", "journal.jsonl"
PRIMARY = (SPACE, JOURNAL)  # all others are derived from these
TABLES = ("trials.parquet", "history.parquet", "configs.parquet")
REPORT = ("summary.csv", "report.html", "verdicts.json", "report")  # files, and the folder with the figures
DEFAULT_STORAGE = "results"  # the folder that holds the sweeps
