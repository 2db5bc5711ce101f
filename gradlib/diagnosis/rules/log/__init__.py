"""Rules that read a training log: each sees one pattern, or stays silent.

A log shows numbers and no model, so a rule gives every cause that fits the pattern,
the likeliest first, and the test that tells them apart. A file holds the rules on one
pattern; `LOG_RULES` in ``table`` lists them all.
"""
