"""Running plans: the attempt engine, its deadlines and its settlement, and what is built on top of it."""
