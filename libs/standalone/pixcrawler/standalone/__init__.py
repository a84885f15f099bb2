"""PixCrawler on one machine: broker, database and services as child processes."""
