"""`mama-site check`: everything a site needs before it trains, each with what is wrong and what to do about it."""
