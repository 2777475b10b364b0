"""Which rows of the catalogue are compared with the target.

Knows: that row 0, *unknown*, is never one of them.
"""

#: The logit of a row that is not a class: small enough for exp to give 0, finite so that nothing is NaN.
UNRANKED = -1e30
