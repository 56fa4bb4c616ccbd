"""One dataset dealt to several simulated hospitals."""
