"""How good label maps are, measured the way the data sets and families do."""
