"""Models as pure functions of their parameters, and their names elsewhere."""
