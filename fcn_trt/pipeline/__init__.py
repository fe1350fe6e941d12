"""A model's whole way: the plan, what is reused of it, and the recipe that it is read from."""
