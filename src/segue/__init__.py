"""Segue: a recommender that remembers.

events = segue.read_events("ratings.csv")
train, test = segue.split_by_time(events, test=0.1)
rec = segue.train(train, catalogue="movies.csv")
print(segue.evaluate(rec, test))
rec.save("movies.segue")
"""

from segue.api import convert, load, train
from segue.config import Config, configure
from segue.data.log.events import Events, Reading, inspect, read_events
from segue.data.log.split import (
    hold_out,
    split_by_time,
    split_items,
    split_last,
    split_rolling,
    split_sessions,
    split_users,
)
from segue.data.sequences.windows import Windows, windows
from segue.errors import SegueError
from segue.evaluation.compare.evaluate import evaluate, evaluate_ratings
from segue.evaluation.stream import evaluate_stream
from segue.recommend.filters.fields import F
from segue.recommend.lists.item_filters import Rule
from segue.recommend.plan import Beam, Plan, Sample
from segue.recommend.recommender import Item, Recommender
from segue.recommend.state import State, States
from segue.scenario_file import scenario
from segue.trends.trends import Trends

__all__ = [
    "Beam",
    "Config",
    "Events",
    "F",
    "Item",
    "Plan",
    "Reading",
    "Recommender",
    "Rule",
    "Sample",
    "SegueError",
    "State",
    "States",
    "Trends",
    "Windows",
    "configure",
    "convert",
    "evaluate",
    "evaluate_ratings",
    "evaluate_stream",
    "hold_out",
    "inspect",
    "load",
    "read_events",
    "scenario",
    "split_by_time",
    "split_items",
    "split_last",
    "split_rolling",
    "split_sessions",
    "split_users",
    "train",
    "windows",
]

__version__ = "0.1.0"
