"""The site's service: daemon, guard, node, status files and health."""
