"""The blob store behind one small port; `open_blobs` picks the adapter by URL."""
