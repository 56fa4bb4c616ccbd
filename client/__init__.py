"""The hospital: site file, data and the Flower ClientApp."""
