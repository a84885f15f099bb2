"""What every service shares: events, topics, the consumer loop, outbox, blobs, database."""
