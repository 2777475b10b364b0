"""What a shop sets for its lists: named settings, splits of users between them, and what a user has been shown.

The path: `scenarios` are the values, as a file or a request says them; `kept_scenarios` keeps them in the store for all
servers. `kept_impressions` keeps which lists a user was shown; `arms` notes the arms of users with their events, and
sums up events and lists by arm.
Does not know: HTTP, how a request is decoded, how a list is made.
"""
