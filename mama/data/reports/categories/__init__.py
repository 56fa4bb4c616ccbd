"""BI-RADS categories and ACR densities that sentences state."""
