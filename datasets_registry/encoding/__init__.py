"""From chunks of columns to arrays. Cache keys hash this folder whole."""
