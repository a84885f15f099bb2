"""HTTP front of PixCrawler."""
