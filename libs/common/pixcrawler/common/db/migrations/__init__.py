"""The schema's history, run by `pixcrawler.common.db.migrate`. Forward only."""
