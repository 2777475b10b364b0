"""Which model answers whom: one that runs, one that is rolled out, one to roll back to.

Knows: that old states never meet new weights. While a model is rolled out, a user is answered by the old model until
their state under the new model holds all events. A worker replays the most recent users first, and a user who sends a
request jumps the queue. The worker also rebuilds states that would take a request too long. Where ratings were
learnt, it replays at the start the events that no model has read, because each rating moves what all users share.
Does not know: requests, lists.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from segue.errors import ArgumentError, ConflictError, NotFoundError, StoreError
from segue.model_file import name_running
from segue.recommend.batch import state_to_bytes
from segue.recommend.recommender import Recommender
from segue.serve.live.background import Background
from segue.serve.live.leases import Leases
from segue.serve.live.model_source import open_model
from segue.serve.live.replay import rebuild, to_replay
from segue.store.base import Stale, Store, Write

#: Events that are replayed within a request to move its user to the new model.
AT_ONCE = 500
#: How often a rebuild is tried against a user who keeps writing.
TRIES = 5
#: Seconds that the worker waits for something to do in one turn.
IDLE = 1.0


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model that answers.

    Args:
        rec: with the changes laid over it.
        loaded: as it was loaded.
        found: how its lists are found, in a sentence.
        path: its file, if it came from one.
    """

    rec: Recommender
    loaded: Recommender
    found: str = ""
    path: Path | None = None


@dataclass(frozen=True)
class ModelFolder:
    """The models that may be rolled out.

    Args:
        files: the newest first; none without a folder.
        running: the file of the model that answers or is coming, if it came from one.
        previous: the fingerprint to roll back to, if there is one.
    """

    files: tuple[Path, ...]
    running: Path | None
    previous: str | None


class Rollout:
    """The models of a service, and the worker in the background.

    Args:
        store: with the states.
        running: the model that answers.
        folder: of the models that may be rolled out.
        applied: returns a model as it answers, with the changes of items and the trends.
        shadow: a model that answers nobody.
    """

    def __init__(
        self,
        store: Store,
        running: ServedModel,
        folder: Path | None,
        applied: Callable[[Recommender], Recommender],
        shadow: ServedModel | None = None,
    ) -> None:
        self.running, self.shadow = running, shadow
        self.coming: ServedModel | None = None
        self.previous: ServedModel | None = None
        self.caught_up, self._rolled_back = 1.0, False
        self._store, self._folder, self._applied = store, folder, applied
        self._urgent: OrderedDict[str, None] = OrderedDict()
        self._wake = threading.Condition()
        self._closed, self._busy, self._owing = False, False, running.rec.network.rating is not None
        self._leases, self._unused, self._renewed = Leases(store), list[str](), 0.0
        self.worker = Background("segue-replay", self._work)
        self.renew()
        self.worker.start()

    def models(self) -> list[Recommender]:
        """Return every model at hand."""
        return [one.rec for one in (self.running, self.coming, self.previous, self.shadow) if one is not None]

    @property
    def shadow_rec(self) -> Recommender | None:
        """The model in the shadow, if there is one."""
        return None if self.shadow is None else self.shadow.rec

    def beside(self, rec: Recommender) -> Recommender | None:
        """Return the model that reads the events beside another one: the shadow, beside the shadow the running one."""
        shadow = self.shadow_rec
        return self.running.rec if shadow is not None and shadow.fingerprint == rec.fingerprint else shadow

    def home(self, users: Sequence[str], *, shadow: bool = False) -> ServedModel:
        """Return the model that answers these users: the new one if all of them are caught up or soon would be.

        With `shadow` the model in the shadow, if there is one, is the new one.
        """
        coming = (self.shadow if shadow else None) or self.coming
        if coming is None:
            return self.running
        behind = []
        for user, head in zip(users, self._store.heads(list(users), coming.rec.fingerprint), strict=True):
            if not head.fresh and head.count and to_replay(coming.rec, self._store, head)[1] > AT_ONCE:
                behind.append(user)
        for user in behind:
            self.rebuild_later(user)
        return self.running if behind else coming

    def rebuild_later(self, user: str) -> None:
        """Rebuild the state of a user in the background, before all others."""
        with self._wake:
            self._urgent[user] = None
            self._wake.notify()

    def folder(self) -> ModelFolder:
        """Return the models that may be rolled out."""
        files = [] if self._folder is None else [path for path in self._folder.glob("*.segue") if path.is_file()]
        back = self.running if self.coming is not None else self.previous
        last = None if back is None or self._rolled_back else back.rec.fingerprint
        newest = sorted(files, key=lambda path: -path.stat().st_mtime)
        return ModelFolder(tuple(newest), (self.coming or self.running).path, last)

    def named(self, name: str) -> Path:
        """Return a model of the folder by its name.

        Raises:
            NotFoundError: there is no such file, or no folder was given.
            ArgumentError: the name is a path.
        """
        if self._folder is None:
            raise NotFoundError("model: expected a folder of models, none was given. Start with --models DIR.")
        if not name or Path(name).name != name or name in (".", ".."):
            raise ArgumentError(f'model "{name}": expected the name of a file in the folder of models, not a path.')
        path = self._folder / name
        if not path.is_file():
            raise NotFoundError(f'model "{name}": expected a file in the folder of models, there is none.')
        return path

    def begin(self, path: Path) -> str:
        """Swap a model in, and return its fingerprint. After a restart in its folder it is the one that runs.

        Raises:
            ConflictError: a roll-out of another model is under way.
            ModelError: it is not a whole model, or the folder cannot be written.
        """
        loaded, found = open_model(path)
        return self._bring_in(ServedModel(self._applied(loaded), loaded, found, path))

    def roll_back(self) -> str:
        """Roll back to the model before; a roll-out under way is given up. Done again, it is done.

        Raises:
            NotFoundError: there is none.
        """
        with self._wake:
            if self._rolled_back:
                return (self.coming or self.running).rec.fingerprint
            if self.coming is not None:
                self._remember(self.running)
                self.coming, self.caught_up, self._rolled_back = None, 1.0, True
                return self.running.rec.fingerprint
            back = self.previous
        if back is None:
            raise NotFoundError("roll back: expected a model that ran before, there was no roll-out.")
        return self._bring_in(back, rolled_back=True)

    def _bring_in(self, new: ServedModel, *, rolled_back: bool = False) -> str:
        with self._wake:
            if self.coming is not None:
                if self.coming.rec.fingerprint == new.rec.fingerprint:
                    return new.rec.fingerprint
                raise ConflictError("model: expected no roll-out under way, there is one. Wait for it, or roll back.")
            self._remember(new)
            if new.rec.fingerprint == self.running.rec.fingerprint:
                self.running = new
                return new.rec.fingerprint
            self.coming, self.caught_up, self._rolled_back = new, 0.0, rolled_back
            if self.shadow is not None and self.shadow.rec.fingerprint == new.rec.fingerprint:
                self.shadow = None  # it has come out of the shadow, with its states
            self._wake.notify()
        self.renew()
        return new.rec.fingerprint

    def _remember(self, running: ServedModel) -> None:
        """Let a restart run this model, before the roll-out is acknowledged."""
        folder, path = self._folder, running.path
        if folder is not None and path is not None and path.resolve().parent == folder.resolve():
            name_running(path)

    def renew(self, *, after: float = 0.0) -> None:
        """Say which models are used here, unless it was said less than `after` seconds ago.

        The states of those that no server uses are dropped in the background.
        """
        if time.monotonic() - self._renewed < after:
            return
        self._renewed = time.monotonic()
        unused = self._leases.renew([rec.fingerprint for rec in self.models()])
        with self._wake:
            self._unused = unused
            self._wake.notify()

    def refresh(self) -> None:
        """Lay the changes over the models anew; nobody waits meanwhile but who changes them too."""
        names = ("running", "coming", "previous", "shadow")

        def anew(one: ServedModel) -> ServedModel:
            rec = self._applied(one.loaded)
            return one if rec is one.rec else replace(one, rec=rec)

        some = [one for one in (getattr(self, name) for name in names) if one is not None]
        laid = {id(one): anew(one) for one in some}
        with self._wake:
            for name in names:
                one = getattr(self, name)
                if one is not None:
                    setattr(self, name, laid.get(id(one)) or anew(one))

    def close(self) -> None:
        """Stop the worker."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self.worker.stop()
        with suppress(StoreError):  # then it is known after a while
            self._leases.release()

    def wait(self, seconds: float = 60.0) -> bool:
        """Wait until nothing is left to do in the background; return whether it is so."""
        with self._wake:
            return self._wake.wait_for(
                lambda: not (self.coming or self._urgent or self._busy or self._owing or self._unused), seconds
            )

    def _work(self) -> None:
        """Do what there is to do; a turn of the worker."""
        with self._wake:
            self._wake.wait_for(
                lambda: self._closed or self._urgent or self._unused or self.coming or self._owing, IDLE
            )
            if self._closed:
                return
        self._drop_unused()
        self._do_urgent()
        if self.coming is not None:
            self._catch_up_all(self.coming)
        elif self._owing:
            self._catch_up_owing(self.running)

    def _drop_unused(self) -> None:
        """Drop the states of models that no server uses, each if that is still so."""
        while self._unused and not self._closed:
            model = self._unused[0]
            if model in self._leases.renew([rec.fingerprint for rec in self.models()]):
                self._leases.drop(model)
            with self._wake:
                self._unused = [one for one in self._unused if one != model]
                self._wake.notify_all()

    def _do_urgent(self) -> None:
        """Rebuild the users who wait. A user who is named again meanwhile, after a write, is rebuilt again."""
        while True:
            with self._wake:
                if not self._urgent or self._closed:
                    self._wake.notify_all()
                    return
                user, _ = self._urgent.popitem(last=False)
                self._busy = True
            try:
                self._try(self.coming or self.running, user)
                if self.shadow is not None:
                    self._try(self.shadow, user)
            except StoreError:
                self.rebuild_later(user)
                raise
            finally:
                with self._wake:
                    self._busy = False
                    self._wake.notify_all()

    def _catch_up_all(self, coming: ServedModel) -> None:
        """Replay everybody under the new model, the most recent first; then it is the one that runs."""
        for done, (user, total) in enumerate(self._everybody(coming), start=1):
            self._try(coming, user)
            self.caught_up = done / (total + 500)
        with self._wake:
            if self.coming is coming and not self._closed:
                self.previous, self.running, self.coming, self.caught_up = self.running, coming, None, 1.0
                self._wake.notify_all()

    def _catch_up_owing(self, running: ServedModel) -> None:
        """Replay those who have events that the model has neither learnt nor read."""
        for user, _ in self._everybody(running):
            self._try(running, user, owing=True)
        with self._wake:
            self._owing = self.running is not running or self.coming is not None
            self._wake.notify_all()

    def _everybody(self, under: ServedModel) -> Iterator[tuple[str, int]]:
        """Give all users, the most recent first, and how many are known of, while this model is to be caught up."""
        before, total = None, 0
        while page := self._store.users(before=before, limit=500):
            total += len(page)
            for active in page:
                self._do_urgent()
                if self._closed or (self.coming or self.running) is not under:
                    return
                yield active.user, total
            before = page[-1].active

    def _try(self, running: ServedModel, user: str, *, owing: bool = False) -> None:
        """Bring a user up to date; what is wrong with one is counted and logged, and the next one comes.

        Args:
            running: the model.
            user: who.
            owing: only one who has events that the model has neither learnt nor read.

        Raises:
            StoreError: nobody can be brought up to date, for the store is in trouble.
        """
        for last in (False, True):
            try:
                if not owing or self._owes(running.rec, user):
                    self._catch_up(running.rec, user)
                return
            except Exception as error:
                if isinstance(error, StoreError) and not self._store.ready().ready:
                    raise
                if last:
                    self.worker.report(error)

    def _owes(self, rec: Recommender, user: str) -> bool:
        last = self._store.head(user, rec.fingerprint).last
        return last is not None and (rec.learnt_until is None or last.place > rec.learnt_until)

    def _catch_up(self, rec: Recommender, user: str) -> None:
        """Bring the state of a user under a model up to date, whatever length it takes."""
        for _ in range(TRIES):
            head = self._store.head(user, rec.fingerprint)
            if head.fresh or not head.count or head.erased:
                return
            begin, _ = to_replay(rec, self._store, head)
            found = rebuild(rec, self._store, head, begin=begin)
            state = {rec.fingerprint: state_to_bytes(found.state)}
            replayed = {rec.fingerprint: found.rated}
            write = Write(head.user, head.version, states=state, snapshots=found.snapshots, replayed=replayed)
            if not isinstance(self._store.commit([write])[0], Stale):
                return
