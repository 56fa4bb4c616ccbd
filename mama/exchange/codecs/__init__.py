"""How an array's numbers are written: exactly, in half the bits, as small integers, or only the largest."""
