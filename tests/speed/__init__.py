"""How long one step of an attack takes, a row: a measurement, and no test; nothing is asserted about time."""
