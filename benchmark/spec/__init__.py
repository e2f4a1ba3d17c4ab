"""Plain data that describes what may be asked for: arms, training options, budgets."""
