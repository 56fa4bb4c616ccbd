"""Reports: sentences, the breast that each is about, what they state, and identifiers in them."""
