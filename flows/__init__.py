"""Prefect flows: when and where stages run. What runs, and what is up to date, is DVC's to say."""
