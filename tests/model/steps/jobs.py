"""Two jobs from their start to their end: who reads what, what goes wrong, what time does."""

from tests.model.steps import api, planner, stages, tracker, uploader
from tests.model.steps.state import CAPACITY, JobState
from tests.model.world import Record, Steps, Work


class JobWorld(JobState):
    """One schedule of two jobs."""

    def work_on(self, record: Record) -> Steps:
        subject = record.subject
        match record.reader:
            case "stages":
                assert isinstance(subject, tuple)
                return stages.work(self, subject, record.detail)
            case "uploader":
                assert isinstance(subject, int)
                return uploader.finish(self, subject, record.detail)
            case _:
                return planner.planner(self, record)

    def deliver(self) -> None:
        record = self.take(self.bag)
        if record.reader == "tracker":
            tracker.handle(self, record)
        else:
            self.running.append(Work(record, self.work_on(record)))

    def other(self) -> bool:
        """The relay, admissions, people, and the server that ends transactions."""
        if self.held and self.rules.transactions_end and self.chance() < 0.3:
            self.held.clear()
            return True
        if self.wishes and self.chance() < (0.05 if self.bag or self.running else 0.3):
            self.wish()
            return True
        if self.outbox and self.chance() < 0.7:
            self.relay()
            return True
        if self.admit():
            return True
        if self.outbox:
            self.relay()
            return True
        return False

    def admit(self) -> bool:
        """One or two replicas admit; whether there was anything to admit, and perhaps a slot."""
        waiting = any(
            row.status == "pending"
            for job, rows in self.rows.items()
            if not self.unwanted(job)
            for row in rows.values()
        )
        full = len(self.busy()) >= CAPACITY
        if not waiting or (full and self.chance() < 0.9):
            return False
        replicas = 1 + (self.chance() < 0.3)
        self.running += [Work(None, planner.admit(self)) for _ in range(replicas)]
        return True

    def wish(self) -> None:
        """Somebody wants something; a start comes first, and nothing much comes after the end."""
        what, job = self.wishes.pop()
        self.idle = 0
        api.wish(self, what, job)

    def disturb(self) -> None:
        self.chaos -= 1
        luck = self.chance()
        if luck < 0.15:
            self.crash()
        elif luck < 0.25:
            self.pause()
        elif luck < 0.35:
            self.wake()
        elif luck < 0.45:
            self.twice()
        elif luck < 0.6:
            self.again()
        elif luck < 0.66:
            self.vanish()
        elif luck < 0.74:
            self.silent()
        elif luck < 0.84:
            self.chaos += 0.7
            planner.timer(self, int(self.chance() * 2))
        else:
            self.chaos += 0.7
            tracker.trouble(self)

    def vanish(self) -> None:
        """A record is gone, as when retention overtakes it."""
        if self.bag:
            record = self.take(self.bag)
            self.lost += record.reader != "tracker"
            self.tell("LOST", record[:3])

    def silent(self) -> None:
        """A chunk was not heard of for its deadline."""
        if busy := self.busy():
            chunk, row = self.pick(busy)
            self.tell("SILENT", chunk)
            self.publish("silent", chunk, (row.attempt, True))

    def rest(self) -> bool:
        """Nothing moves: trouble that is left, then what time brings, then the end."""
        if self.chaos > 0 and not self.over:
            self.disturb()
            return True
        if self.limbo:
            self.reassign()
            return True
        if self.tracker_trouble:
            self.tracker_trouble -= 1
            tracker.trouble(self)
            return True
        self.uncommitted.clear()
        tracker.flush(self)
        if self.wishes and self.idle > self.chance() * 6:
            self.wish()
            return True
        return self.time_passes()

    def time_passes(self) -> bool:
        """Timers and deadlines, again and again, until they change nothing; then zombies wake."""
        busy = self.busy()
        if busy and not self.lost:
            self.breaks("no record is lost")
        for chunk, row in busy:
            self.publish("silent", chunk, (row.attempt, True))
        did = [planner.timer(self, job) for job in self.supply]
        self.idle = 0 if busy else self.idle + 1
        if self.idle < 3 or self.wishes or (any(did) and self.idle < 9):
            return True
        if self.asleep:
            self.forget()
            self.wake()
            self.idle = 0
            return True
        return bool(self.running or self.bag or self.outbox)

    def forget(self) -> None:
        """The tombstone of a deleted job ends: nobody knows it any more."""
        for job in [job for job, state in self.jobs.items() if state.deleted]:
            if self.chance() < 0.5:
                self.tell("FORGET", job)
                del self.jobs[job]
                self.rows[job] = {}
                self.claims.pop(job, None)
                self.decided = {chunk for chunk in self.decided if chunk[0] != job}
                self.shown.pop(job, None)
                self.forgotten.add(job)
