"""The site's policy: limits on experiments, runs and models at this site."""
