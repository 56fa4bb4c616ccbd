"""Secure aggregation: the coordinator learns only the sum of the sites' updates.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017,
for a server that is curious but follows the protocol. This package is shared by both sides, which
are `client/secagg/participant.py` and `server/secagg/secure_sum.py`.
"""
