"""A small shop of films for examples: its files have the names and columns that the pages speak of.

Knows: how the files look. Does not know: what is done with them. The same seed writes the same files.
"""

import csv
import random
from pathlib import Path
from typing import Any

GENRES = ("Action", "Comedy", "Drama", "Sci-Fi", "Children's")
WORDS = (
    ("Silent", "Golden", "Last", "Hidden", "Brave", "Lost", "Distant", "Broken"),
    ("River", "Empire", "Garden", "Star", "Letter", "Winter", "Road", "Island"),
)
JOBS = ("writer", "student", "engineer", "artist")
ITEMS, USERS, EVENTS, START = 200, 80, 30, 880_000_000


def _write(path: Path, header: list[str], rows: list[tuple[Any, ...]], separator: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def title(item: int) -> str:
    """Return the title of a film, another for each."""
    first, second = WORDS
    return f"{first[item % 8]} {second[item // 8 % 8]}" + (f" {item // 64 + 1}" if item >= 64 else "")


def events(seed: int = 0) -> list[tuple[int, int, int, int]]:
    """Return user, item, rating and time of each event; users like the films of one genre and go from film to film."""
    drawn, found = random.Random(seed), []
    for user in range(1, USERS + 1):
        genre, at, had = user % len(GENRES), START + drawn.randrange(86_400 * 30), set()
        item = 1 + drawn.randrange(ITEMS)
        for _ in range(EVENTS):
            had.add(item)
            liked = item % len(GENRES) == genre
            found.append((user, item, drawn.choice((4, 5) if liked else (1, 2, 3)), at))
            at += drawn.choice((60, 3_600, 86_400))
            item = 1 + (item + len(GENRES) - 1) % ITEMS if drawn.random() < 0.7 else 1 + drawn.randrange(ITEMS)
            while item in had:
                item = 1 + drawn.randrange(ITEMS)
    drawn.shuffle(found)
    return found


def write(folder: Path) -> Path:
    """Write all files of the shop into a folder and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    log, drawn = events(), random.Random(1)
    films = [(i, title(i), 1950 + i % 50, GENRES[i % len(GENRES)], drawn.choice(GENRES)) for i in range(1, ITEMS + 1)]
    people = [(u, 18 + u % 50, JOBS[u % len(JOBS)]) for u in range(1, USERS + 1)]
    names = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    _write(folder / "events.tsv", names, log, "\t")
    names = ["item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"]
    _write(folder / "items.tsv", names, [(i, name, year, f"{a} {b}") for i, name, year, a, b in films], "\t")
    names = ["user_id:token", "age:token", "occupation:token"]
    _write(folder / "users.tsv", names, people, "\t")
    _write(folder / "ratings.csv", ["userId", "movieId", "rating", "timestamp"], list(log))
    _write(folder / "movies.csv", ["movieId", "title", "genres"], [(i, name, f"{a}|{b}") for i, name, _, a, b in films])
    plays = [(u, i, t, "tv" if r > 3 else "phone", "buy" if r == 5 else "view") for u, i, r, t in log]
    _write(folder / "plays.csv", ["user", "item", "time", "device", "type"], plays)
    rows = [(i, name, f"{a}|{b}", year) for i, name, year, a, b in films]
    _write(folder / "films.csv", ["item", "title", "genres", "year"], rows)
    _write(folder / "people.csv", ["user", "age", "job"], people)
    _write(
        folder / "new-films.csv", ["item", "title", "genres", "year"], [("n1", "Brave New River", "Sci-Fi|Drama", 1999)]
    )
    return folder
