"""Secure aggregation: the coordinator learns the sum of the sites' updates and no single one.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017, for a server that
is curious but follows the protocol. What is here is shared by both sides; `client/secagg.py` and
`server/secagg.py` are the two ends.
"""
