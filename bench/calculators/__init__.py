"""Other memory calculators: one adapter each, which runs where its calculator is installed."""
