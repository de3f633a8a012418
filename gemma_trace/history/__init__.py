"""How a measure of a store's runs went over time, and where it changed."""
