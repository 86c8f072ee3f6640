"""State that every replica should see alike: circuits, health, rate limits. In memory by default."""
