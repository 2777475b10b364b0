"""From a file to a model that answers.

Knows: which index finds the lists of a model. Does not know: what an index does.
"""

from pathlib import Path

from segue.recommend.index.approximate import exact_index, open_index
from segue.recommend.recommender import Recommender, load_model

#: Items up to which all are scored for each list, and online metrics are exact.
EVERY = 50_000


def open_model(path: Path) -> tuple[Recommender, str]:
    """Return the model in a file as it answers, and how its lists are found, in a sentence.

    The index beside it is used if it fits (`segue.recommend.index.approximate.open_index`). One that does not is
    refused with the reason, and lists are searched among all items; so they are where there is none.

    Raises:
        ModelError: it is not a whole model.
    """
    rec = load_model(path)
    index, said = open_index(rec, path)
    if index is None and len(rec.items) > EVERY:
        index = exact_index(rec)
    return rec.with_index(index), said
