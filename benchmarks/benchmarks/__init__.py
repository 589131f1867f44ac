"""The asv suite: seconds, peak memory and certified gaps of the same calls."""
