"""The site's own report, which stays at the site."""
