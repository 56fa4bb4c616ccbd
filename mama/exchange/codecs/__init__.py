"""Codecs of array values: exact, half precision, 8-bit integers, or only the largest values."""
