"""The PixCrawler command line and Python SDK."""
