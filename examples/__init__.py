"""Examples that run from a checkout; none of them is in the wheel."""
