"""The consumer loop: one class of runner drives planner, downloader, validator and uploader.

A service supplies handlers; `Stage.run` is the loop. What is not obvious, each point measured with
aiokafka 0.14 (its source says the same):

- The loop always polls, also when it is full (everything paused), or the group would throw it out
  after `max_poll_interval`. `getmany` is cancelled by nothing but stopping: that leaks
  a counter in the client and disables its check.
- A bare `commit()` commits what was *fetched*. Here only the lowest offset that everything before
  is done is committed (`offsets.py`), explicitly, in a timeout, by epoch of the assignment.
- Every rebalance is eager: all positions go back to the last commit. On revoke the loop commits
  what is contiguous and returns at once; work in hand goes on. On assign, work of partitions that
  went elsewhere is cancelled; work of those that stayed goes on, and its record, delivered again,
  is known (`offsets.py`). A double run is waste, never damage: every object is created once.
- A partition that shall move while work of it is in hand stays until that is done (`assignor.py`):
  the loop takes nothing more of it, and then joins the group again.
- The client swallows exceptions of the rebalance listener, and `stop()` does not call it. Awaiting
  the loop from the listener would deadlock: `getmany` waits for the assignment.
- `rebalance_timeout_ms` defaults to the session timeout; here it is the drain budget and a margin.
- A stage that is paused polls on with everything paused; a replica that is drained finishes what it
  has in hand, leaves the group, also as a static member, and waits without one (`steering.py`).
- The assignor is one, and our own (`assignor.py`): with ranges half of all partitions move whenever
  a replica comes or goes, and their work begins again. A replica with a name that comes back is a
  static member: restarting it moves nothing.
"""

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata, TopicPartition
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import dlq, events, failpoints, logs, metrics, telemetry, topics
from pixcrawler.common.assignor import new_assignor
from pixcrawler.common.backlog import Backlog
from pixcrawler.common.errors import Fatal, GiveUp, Poison, Stopped
from pixcrawler.common.events import Event
from pixcrawler.common.ids import task_id
from pixcrawler.common.jobwatch import DatabaseWatch, JobWatch, NoWatch
from pixcrawler.common.kafka import Servers, options
from pixcrawler.common.limits import DRAIN_S, Limits
from pixcrawler.common.offsets import Offsets
from pixcrawler.common.publisher import TOO_LARGE, Publisher
from pixcrawler.common.retry import Patience, exhausted, patiently
from pixcrawler.common.steering import LOOK_S, TELL_S, State, Steering
from pixcrawler.common.watchdog import Watchdog
from pixcrawler.common.work import Delivery, Route, Work, WorkContext, default_key, failure, stamped

__all__ = ["Route", "Stage", "default_key"]

log = logs.get(__name__)

T = TypeVar("T")

POLL_S = 0.5
COMMIT_EVERY_S = 1.0
_LOGGED = 500
"""Characters of a reason in a line of the log."""
COMMIT_S = 5.0
"""How long a commit may take; a rebalance waits for it, so it must be shorter than one."""
HEARTBEAT_S = 2.0
"""So long at most until a replica learns that the group rebalances."""
REBALANCE_MARGIN_S = 10.0
CANCEL_S = 2.0
"""How long cancelled work may take to end."""
LEAVE_S = 2.0
BUSY_S = 1.0
"""Work that is younger does not keep its partition from moving: another rebalance costs more."""
HAND_OVER_S = 5.0
"""How long what can move waits for what cannot yet, so that both need one rebalance only."""
FETCH_PARTITION_BYTES = 256 * 1024
"""What is fetched of a partition before it is asked for: some 500 events. It stays in memory while
the hands are full, and a stage may read 84 partitions. A larger record comes all the same."""
FETCH_BYTES = 8 * 1024 * 1024
CAREFUL_S = 0.05
"""How long each partition is waited for while one record is looked for."""
UNREADABLE = "the names of its headers are not UTF-8, so this client cannot read it"
_UNRECORDED = frozenset({topics.CHUNK_PROGRESS})
"""Topics of which no spans are recorded: once a second for each chunk tells nothing of its way."""
JOIN_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class Stage:
    """A consumer group's member that runs handlers.

    Args:
        name: The stage, such as `downloader`; also the consumer group unless `group` is given.
        routes: What is read and by whom.
        bootstrap_servers: `host:port`, comma-separated, or a cluster.
        worker: This replica's name.
        publisher: Started and stopped by whoever made it.
        engine: Where to ask whether jobs are wanted; None: all of them are.
        watchdog: Asked before every write.
        session_timeout_s: Without a heartbeat for so long the group goes on without this replica.
        drain_s: What `stop` leaves for work in hand.
        limits: How much it holds, and how patient it is.
        group: The consumer group.
        steering: What operators want of this replica; None: nothing, ever.
        instance: A name that this replica has again when it is started again (static membership).
            Then a restart within the session timeout moves no partition; but who does not come back
            keeps its partitions from others for so long. No two replicas have the same.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        routes: Sequence[Route[Any]],
        *,
        bootstrap_servers: Servers,
        worker: str,
        publisher: Publisher,
        engine: AsyncEngine | None,
        watchdog: Watchdog,
        session_timeout_s: float = 10.0,
        drain_s: float = DRAIN_S,
        limits: Limits | None = None,
        group: str = "",
        instance: str = "",
        steering: Steering | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.worker = worker
        self.group = group or name
        self._instance = re.sub("[^a-zA-Z0-9._-]", "-", instance)
        self.publisher = publisher
        self.watchdog = watchdog
        self.limits = limits or Limits()
        self.clock = clock
        self._steering = steering
        self._told: tuple[State, float] | None = None  # as it was told last, and when
        self._watch: JobWatch = NoWatch() if engine is None else DatabaseWatch(engine)
        self._routes = {route.event.topic: route for route in routes}
        self._bootstrap_servers = bootstrap_servers
        self._session_timeout_s = session_timeout_s
        self._drain_s = drain_s
        self._rebalance_s = drain_s + REBALANCE_MARGIN_S
        # A stage that may not write chunk.failed never gives up on an event.
        self._endless = not _may_fail_chunks(name)
        self._offsets: Offsets[TopicPartition] = Offsets()
        self._assignor = new_assignor()
        self._leaving: dict[TopicPartition, float] = {}  # to be let go of → told at
        self._assigned_at = clock()
        self._handed_over = False
        self._works: dict[tuple[str, str], Work] = {}
        self._dead_letters = dlq.Limiter(
            run=self.limits.poison_run,
            ratio=self.limits.poison_ratio,
            window=self.limits.poison_window,
        )
        self._repeats = dlq.Repeats(self.limits.repeat_s, clock=clock)
        self._backlog = Backlog(bootstrap_servers, f"{name}-{worker}-backlog")
        self._ends: Mapping[TopicPartition, int] = {}
        self._oldest: dict[TopicPartition, tuple[int, int]] = {}  # position → written at, ms
        self._careful = False
        self._consumer: AIOKafkaConsumer | None = None
        self._stopping = asyncio.Event()
        self._room = asyncio.Event()
        self._committing = asyncio.Lock()
        self._committed_at = clock()
        self._advanced_at = clock()
        self._halted = ""
        self._fatal: BaseException | None = None

    # The loop

    async def run(self) -> None:
        """Consume until stopped; a replica that is drained rests meanwhile, without the group.

        Raises:
            Fatal: this process cannot go on.
            KafkaError: likewise, as the consumer says.
        """
        steer = asyncio.create_task(self._steer())
        try:
            while not self._stopping.is_set():
                await self._rest()
                consumer = await self._join()
                if consumer is not None:
                    await self._consume(consumer)
        finally:
            steer.cancel()
            await self._say_goodbye()

    async def _consume(self, consumer: AIOKafkaConsumer) -> None:
        """Poll and take, commit, until stopped or drained; then leave the group."""
        metrics.IN_FLIGHT.labels(self.name).set(0)  # so that a stage that never worked is seen idle
        asides = [
            asyncio.create_task(self._watch_jobs()),
            asyncio.create_task(self._watch_backlog(consumer)),
        ]
        try:
            while not self._stopping.is_set() and not (self._drained and not self._works):
                self._advanced_at = self.clock()
                await self._poll(consumer)
                await self._hand_over(consumer)
                if self.clock() - self._committed_at >= COMMIT_EVERY_S:
                    await self._commit(consumer)
                    self._measure(consumer)
                self._raise_fatal()
            await self._drain(consumer)
            self._raise_fatal()
        finally:
            for aside in asides:
                aside.cancel()
            await self._abandon(self._works.values())
            await self._leave(consumer)

    async def stop(self) -> None:
        """Let `run` return after draining; also before it was started, and twice."""
        self._stopping.set()
        self._room.set()

    def alive(self) -> bool:
        """Whether the loop advanced lately; a rebalance may hold it for its timeout."""
        return self.clock() - self._advanced_at < self._rebalance_s + self._session_timeout_s + 30

    async def check(self) -> None:
        """Raise if the stage does not consume (readiness); the message says why."""
        if self._halted:
            raise Fatal(self._halted)
        if self._drained and self._steering:
            resume = f"pixcrawler resume replica {self.worker}"
            raise Fatal(f"{self._state()}: {self._steering.drained}; {resume} ends that")
        if self._consumer is None:
            raise Fatal(f"the {self.name} has not joined its group yet")

    def note(self) -> str:
        """What is to be known of a stage that is well all the same: that it is paused."""
        paused = self._steering.paused if self._steering else None
        return "" if paused is None else str(paused)

    # Being steered

    @property
    def _paused(self) -> bool:
        return self._steering is not None and self._steering.paused is not None

    @property
    def _drained(self) -> bool:
        return self._steering is not None and self._steering.drained is not None

    def _state(self) -> State:
        if self._halted:
            return "halted"
        if self._drained:
            return "drained" if self._consumer is None else "draining"
        return "paused" if self._paused else "working"

    async def _steer(self) -> None:
        """Once a second, what operators want; now and then, that this replica is there."""
        while self._steering is not None:
            await asyncio.sleep(LOOK_S)
            await self._look_and_tell(self._steering)

    async def _look_and_tell(self, steering: Steering) -> None:
        before = self._state()
        try:
            await steering.look()
            state, now = self._state(), self.clock()
            if self._told is None or state != self._told[0] or now - self._told[1] >= TELL_S:
                await steering.tell(state, len(self._works))
                self._told = (state, now)
        except Exception as error:  # noqa: BLE001 - what was known holds; it is asked again
            log.warning("cannot ask", action="steer", error=str(error) or repr(error))
        if (state := self._state()) != before:
            log.warning("steered", action="steer", state=state, was=before)
            self._room.set()

    async def _say_goodbye(self) -> None:
        if self._steering is not None and self._told is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(LEAVE_S):
                    await self._steering.leave()

    async def _rest(self) -> None:
        """As long as it is drained: be alive, and do nothing. Looks before the first record."""
        if self._steering is not None:
            await self._look_and_tell(self._steering)
        while self._drained and not await _set_within(self._stopping, POLL_S):
            self._advanced_at = self.clock()

    # Polling

    async def _join(self) -> AIOKafkaConsumer | None:
        """Become a member of the group; None if stopped before."""
        for attempt in itertools.count():
            self._advanced_at = self.clock()
            consumer = self._new_consumer()
            try:
                await _unless(self._stopping, consumer.start())
            except (KafkaError, OSError) as error:
                log.warning("cannot join yet", action="join", error=str(error) or repr(error))
            except BaseException:
                await self._leave(consumer)
                raise
            else:
                if not self._stopping.is_set():
                    self._consumer = consumer
                    return consumer
            await self._leave(consumer)
            backoff_s = JOIN_BACKOFF_S[min(attempt, len(JOIN_BACKOFF_S) - 1)]
            if await _set_within(self._stopping, backoff_s):
                break
        return None

    def _new_consumer(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **options(self._bootstrap_servers),
            client_id=f"{self.name}-{self.worker}",
            group_id=self.group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            group_instance_id=self._instance or None,
            partition_assignment_strategy=(self._assignor,),
            session_timeout_ms=_ms(self._session_timeout_s),
            heartbeat_interval_ms=_ms(min(HEARTBEAT_S, self._session_timeout_s / 4)),
            rebalance_timeout_ms=_ms(self._rebalance_s),
            max_partition_fetch_bytes=FETCH_PARTITION_BYTES,
            fetch_max_bytes=FETCH_BYTES,
        )
        consumer.subscribe(list(self._routes), listener=_Listener(self))
        return consumer

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        """Take as many records as there is room for; none after half a second."""
        if (free := self._free()) == 0:
            self._room.clear()
            await _set_within(self._room, POLL_S)
            free = self._free()
        if free == 0:
            consumer.pause(*consumer.assignment())
        else:
            consumer.resume(*consumer.paused())
        try:
            # Only stopping cancels a poll: what it leaks does not matter then.
            await _unless(self._stopping, self._fetch(consumer, free))
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("cannot poll", action="poll", error=str(error) or repr(error))

    async def _fetch(self, consumer: AIOKafkaConsumer, free: int) -> None:
        """One call of the client, and its records taken before anything else can run.

        An instant later they might belong to an assignment that is over.
        """
        if self._careful and free:
            await self._fetch_carefully(consumer)
            return
        timeout_s = POLL_S if free else 0.0
        try:
            batches = await consumer.getmany(timeout_ms=_ms(timeout_s), max_records=max(1, free))
        except Exception as error:
            # What it had in its hands when it failed is gone from its memory.
            await self._rewind(consumer)
            if not isinstance(error, UnicodeDecodeError):
                raise
            log.warning("a record that the client cannot read", action="poll", error=str(error))
            self._careful = True
            return
        for batch in batches.values():
            for record in batch:
                self._take(record)

    async def _fetch_carefully(self, consumer: AIOKafkaConsumer) -> None:
        """Record by record, to find the one that the client cannot read, and to step over it."""
        for partition in consumer.assignment():
            try:
                batches = await consumer.getmany(
                    partition, timeout_ms=_ms(CAREFUL_S), max_records=1
                )
            except UnicodeDecodeError:
                offset = await consumer.position(partition)
                consumer.seek(partition, offset + 1)
                self._careful = False
                self._take(_unreadable(partition, offset), Poison(UNREADABLE))
                return
            for record in itertools.chain.from_iterable(batches.values()):
                self._take(record)
            if not self._free():
                return

    async def _rewind(self, consumer: AIOKafkaConsumer) -> None:
        """Go on after what was delivered; where nothing was yet, from the last commit."""
        for partition in consumer.assignment():
            expected = self._offsets.expected(partition)
            if expected is None:
                expected = await consumer.committed(partition)
            if expected is None:
                await consumer.seek_to_beginning(partition)
            else:
                consumer.seek(partition, expected)

    def _free(self) -> int:
        """How many pieces of work more there is room for."""
        held = [delivery for work in self._works.values() for delivery in work.held]
        if (
            self._halted
            or self._paused
            or self._drained
            or len(held) >= self.limits.in_flight + self.limits.joined
            or sum(delivery.size for delivery in held) >= self.limits.in_flight_bytes
        ):
            return 0
        return max(0, self.limits.in_flight - len(self._works))

    # Taking records

    def _take(self, raw: ConsumerRecord[bytes, bytes], unreadable: Poison | None = None) -> None:
        """Start a piece of work for a record, or let it join the one that has its key."""
        partition = TopicPartition(raw.topic, raw.partition)
        if partition in self._leaving:
            return  # whoever gets the partition gets it from the last commit on
        token = self._offsets.deliver(partition, raw.offset)
        if self._offsets.is_done(token):
            return
        route = self._routes[raw.topic]
        try:
            if unreadable is not None:
                raise unreadable
            event = events.decode(raw.topic, raw.key, raw.value, raw.headers)
        except Poison as poison:
            delivery = Delivery(token, raw, None, poison)
            key = f"{raw.partition}@{raw.offset}"
        else:
            delivery = Delivery(token, raw, event)
            key = route.key(event)
        work = self._works.get((raw.topic, key))
        if work is None:
            self._start((raw.topic, key), route, [delivery])
        elif any(held.token == token for held in work.held):
            pass  # adopted
        elif work.open:
            work.deliveries.append(delivery)
        else:
            work.after.append(delivery)

    def _start(self, key: tuple[str, str], route: Route[Any], deliveries: list[Delivery]) -> None:
        work = Work(key, route, deliveries, self.clock())
        self._works[key] = work
        work.task = asyncio.create_task(self._work(work))
        # A callback, because a task that is cancelled before its first step runs none of its code.
        work.task.add_done_callback(lambda task: self._ended(work, task))
        metrics.IN_FLIGHT.labels(self.name).set(len(self._works))

    def _ended(self, work: Work, task: asyncio.Task[None]) -> None:
        """Count its records as done, unless it was cancelled; go on with what came meanwhile."""
        del self._works[work.key]
        metrics.IN_FLIGHT.labels(self.name).set(len(self._works))
        self._room.set()
        if not task.cancelled() and task.exception() is not None:
            self._fatal = self._fatal or task.exception()
        elif not task.cancelled() or work.unwanted:
            for delivery in work.deliveries:
                self._offsets.done(delivery.token)
        after = [each for each in work.after if not self._offsets.is_done(each.token)]
        if after and not self._stopping.is_set():
            self._start(work.key, work.route, after)

    # One piece of work

    async def _work(self, work: Work) -> None:
        """From the event to the acknowledged answer. Raises only what ends the process."""
        span = self._span(work)
        with logs.bound(**self._log_fields(work), trace_id=span.trace.trace_id):
            context = self._context(work, str(span.trace))
            status, why = "interrupted", ""
            try:
                status, why = await self._through(work, context)
            finally:
                self._tell(work, span, status, why)

    async def _through(self, work: Work, context: WorkContext) -> tuple[str, str]:
        """Handle it and answer.

        Returns:
            What became of it, and why if that is not what was wished for.
        """
        why = ""
        try:
            facts, status = await self._handle(work, context), "completed"
        except Stopped as stopped:
            facts, status = (), "cancelled"
            log.info("not wanted any more", action="stop", reason=str(stopped))
        except GiveUp as error:
            facts, status, why = (failure(self.name, work, error),), "failed", error.error
            log.warning("gave up", action="give-up", error=error.error, reason=str(error))
        except Poison as poison:
            facts, status, why = (), "dead", type(poison.__cause__ or poison).__name__
            await self._bury(work, poison)
        work.open = False
        try:
            await self._answer(work, context, facts)
        except TOO_LARGE as error:
            status = await self._answer_less(work, context, error)
            why = "too_large"
        if status != "dead":
            self._dead_letters.good()
        self._count(work, status)
        return status, why

    async def _handle(self, work: Work, context: WorkContext) -> Sequence[Event]:
        """What the handler answers.

        Raises:
            Stopped: nobody wants it any more.
            GiveUp: this attempt has failed.
            Poison: nobody can read it, or handle what is in it.
        """
        if work.first.poison is not None:
            raise work.first.poison
        # There is no chunk.failed for an event about a job.
        endless = self._endless or not work.chunk_id
        try:
            return await self._patiently(
                lambda: work.route.handler(work.event, context), endless=endless
            )
        except (Stopped, GiveUp, Poison, Fatal):
            raise
        except Exception as error:
            if endless:
                raise Poison(f"{type(error).__name__}: {error}") from error
            raise exhausted(error) from error

    async def _answer(self, work: Work, context: WorkContext, facts: Sequence[Event]) -> None:
        """Publish, and wait for the acknowledgement as long as it takes."""
        answer = [stamped(fact, work) for fact in facts]
        await self._patiently(
            lambda: self.publisher.publish(answer, traceparent=context.traceparent),
            endless=True,
        )

    async def _answer_less(self, work: Work, context: WorkContext, error: Exception) -> str:
        """The answer is larger than a record may be: say so, where there is somebody to tell.

        Returns:
            What that makes of the work.
        """
        why = f"its answer is too large: {type(error).__name__}"
        if self._endless or not work.chunk_id:
            await self._bury(work, Poison(why))
            return "dead"
        fact = failure(self.name, work, GiveUp(why, error="too_large", retriable=False))
        await self._answer(work, context, (fact,))
        return "failed"

    async def _bury(self, work: Work, poison: Poison) -> None:
        """Send every record of the work to the dead letters, or halt if they are too many.

        Of a fact that somebody repeats (`job.planned`, every 30 s) one letter in a while is enough,
        and its repetitions are no sign that everything is broken.
        """
        due = {each.letter_id: each for each in work.deliveries if not self._is_repeated(each)}
        if not due:
            log.warning("dead again", action="dead-letter", reason=str(poison)[:_LOGGED])
            return
        if reason := self._dead_letters.dead():
            self._halt(reason)
            raise asyncio.CancelledError
        cause = poison.__cause__ or poison
        for letter_id, delivery in due.items():
            await self._write_letter(letter_id, delivery, cause)
            self._repeats.written(letter_id)
        metrics.DEAD_LETTERS.labels(self.name, type(cause).__name__).inc(len(due))
        log.error(
            "to the dead letters",
            action="dead-letter",
            letters=" ".join(due),
            reason=str(poison)[:_LOGGED],
        )

    def _is_repeated(self, delivery: Delivery) -> bool:
        """Whether it has a letter already; what a person replayed has another one coming."""
        replayed = dlq.is_replayed(delivery.raw.headers)
        return not replayed and self._repeats.lately(delivery.letter_id)

    async def _write_letter(self, letter_id: str, delivery: Delivery, cause: BaseException) -> None:
        """As much of the record as the broker takes; where it stood, in any case."""
        said = dlq.blame(
            delivery.ref,
            cause,
            group=self.group,
            stage=self.name,
            worker=self.worker,
            letter_id=letter_id,
        )
        raw = delivery.raw
        bare = dlq.bare_letter(said)
        whole = bare if delivery.unreadable else dlq.letter(raw.key, raw.value, raw.headers, said)
        try:
            await self._patiently(lambda: self.publisher.send([whole]), endless=True)
        except TOO_LARGE:
            await self._patiently(lambda: self.publisher.send([bare]), endless=True)

    async def _patiently(self, attempt: Callable[[], Awaitable[T]], *, endless: bool) -> T:
        """Try until it works, or until it is not worth it any more; cancelled while stopping."""

        async def sleep(seconds: float) -> None:
            if await _set_within(self._stopping, seconds):
                raise asyncio.CancelledError  # delivered again, to someone who stays

        def tell(error: BaseException, seconds: float) -> None:
            log.warning(
                "trying again",
                action="retry",
                error=str(error) or repr(error),
                in_s=round(seconds, 2),
            )

        patience = Patience(self.limits, endless=endless, clock=self.clock)
        return await patiently(attempt, patience, self.limits, sleep=sleep, before_sleep=tell)

    def _halt(self, reason: str) -> None:
        """Take nothing more: it is the code that is wrong. A person looks, and restarts."""
        if not self._halted:
            self._halted = f"{self.group} has stopped: {reason}"
            log.error("stopped taking records", action="halt", reason=reason)

    # Committing

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        """Commit what is done, of the present assignment; whatever fails is tried again later."""
        async with self._committing:
            self._committed_at = self.clock()
            await self._resume(consumer)
            due = self._offsets.committable()
            if not due.positions:
                return
            self.watchdog.ensure_fresh()
            positions = {tp: OffsetAndMetadata(at, "") for tp, at in due.positions.items()}
            try:
                async with asyncio.timeout(COMMIT_S):
                    failpoints.hit("before:commit")
                    await consumer.commit(positions)
                    failpoints.hit("after:commit")
            except (KafkaError, TimeoutError) as error:
                log.warning("cannot commit", action="commit", error=str(error) or repr(error))
            else:
                self._offsets.committed(due)

    async def _resume(self, consumer: AIOKafkaConsumer) -> None:
        """Ask where the broker goes on with what stayed over a rebalance, if no record told it."""
        epoch, stayed = self._offsets.epoch, self._offsets.unresumed()
        if not stayed:
            return
        try:
            async with asyncio.timeout(COMMIT_S):
                found = await asyncio.gather(*map(consumer.committed, stayed))
        except (KafkaError, TimeoutError) as error:
            log.warning("cannot ask", action="resume", error=str(error) or repr(error))
            return
        for partition, offset in zip(stayed, found, strict=True):
            if epoch == self._offsets.epoch:
                self._offsets.resume(partition, offset)

    # Rebalances

    async def on_revoked(self) -> None:
        """The group is about to rebalance: commit quickly, let the work go on."""
        if self._consumer is not None:
            await self._commit(self._consumer)
        busy: dict[str, list[int]] = {}
        for topic, number in sorted(self._busy()):
            busy.setdefault(topic, []).append(number)
        self._assignor.busy = busy
        self._offsets.revoke()

    def _busy(self) -> set[TopicPartition]:
        """Partitions with work in hand for which moving them had better wait."""
        now = self.clock()
        overdue = {tp for tp, at in self._leaving.items() if now - at >= self._drain_s}
        return {
            each.token.partition
            for work in self._works.values()
            if now - work.started_at >= BUSY_S
            for each in work.deliveries
        } - overdue

    async def on_assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """The group has rebalanced; records that were not committed come again."""
        mine = frozenset(partitions)
        self._offsets.assign(mine)  # before anything awaits: the next poll may bring records
        self._careful = self._handed_over = False
        self._assigned_at = now = self.clock()
        told = self._assignor.leaving.items()
        leaving = {TopicPartition(topic, each) for topic, given in told for each in given}
        self._leaving = {each: self._leaving.get(each, now) for each in leaving & mine}
        metrics.REBALANCES.labels(self.name).inc()
        gone = [work for work in self._works.values() if not work.stays(mine)]
        for work in gone:
            work.cancel()
        log.info(
            "assigned",
            action="assign",
            partitions=len(mine),
            leaving=len(self._leaving),
            cancelled=len(gone),
        )

    async def _hand_over(self, consumer: AIOKafkaConsumer) -> None:
        """Join the group again once what shall move has nothing in hand any more, or is overdue."""
        if self._handed_over or not self._leaving:
            return
        now = self.clock()
        ready = [
            partition
            for partition, told_at in self._leaving.items()
            if not self._offsets.in_hand(partition) or now - told_at >= self._drain_s
        ]
        if ready and (len(ready) == len(self._leaving) or now - self._assigned_at >= HAND_OVER_S):
            self._handed_over = True
            log.info("letting go", action="hand-over", partitions=len(ready))
            # Its only way to ask for a rebalance. What is done is committed at the revoke.
            consumer._coordinator.request_rejoin()  # noqa: SLF001

    # Jobs that nobody wants any more

    async def _watch_jobs(self) -> None:
        """Once a second, one query about the jobs in hand."""
        while True:
            await asyncio.sleep(self.limits.watch_s)
            in_hand = {work.job_id for work in self._works.values() if work.job_id}
            try:
                unwanted = await self._watch.unwanted(in_hand)
            except Exception as error:  # noqa: BLE001 - every write asks again
                log.warning("cannot ask for jobs", action="watch", error=str(error) or repr(error))
                continue
            for work in list(self._works.values()):
                if work.open and work.route.watched and work.job_id in unwanted:
                    work.unwanted = True
                    work.cancel()
                    self._count(work, "cancelled")

    # What waits in the log

    async def _watch_backlog(self, consumer: AIOKafkaConsumer) -> None:
        """Now and then, ask for what this replica has not fetched."""
        try:
            while True:
                try:
                    await self._look_at_backlog(consumer)
                except Exception as error:  # noqa: BLE001 - nothing depends on it
                    log.debug("cannot ask", action="backlog", error=str(error) or repr(error))
                await asyncio.sleep(self.limits.backlog_s)
        finally:
            await self._backlog.close()

    async def _look_at_backlog(self, consumer: AIOKafkaConsumer) -> None:
        mine = consumer.assignment()
        ends = await self._backlog.ends(mine)
        positions = {each: await self._position(consumer, each) for each in mine}
        waiting = {
            each: at
            for each, at in positions.items()
            if at < ends[each] and not self._offsets.in_hand(each)
        }
        written_at = await self._backlog.written_at(waiting)
        self._ends = ends
        self._oldest = {each: (waiting[each], ms) for each, ms in written_at.items()}

    async def _position(self, consumer: AIOKafkaConsumer, partition: TopicPartition) -> int:
        """Up to where everything is done."""
        reached = self._offsets.reached(partition)
        if reached is not None:
            return reached
        async with asyncio.timeout(POLL_S):
            position: int = await consumer.position(partition)
        return position

    # Ending

    async def _drain(self, consumer: AIOKafkaConsumer) -> None:
        """Finish what is in hand within the budget, cancel the rest, commit."""
        deadline = self.clock() + self._drain_s
        while self._works and (left := deadline - self.clock()) > 0 and self._fatal is None:
            tasks = [work.task for work in self._works.values() if work.task is not None]
            left = min(left, COMMIT_EVERY_S)
            await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if self.clock() - self._committed_at >= COMMIT_EVERY_S:
                await self._commit(consumer)
        await self._abandon(self._works.values())
        await self._commit(consumer)

    async def _abandon(self, works: Iterable[Work]) -> None:
        """Cancel work without counting it as done."""
        tasks = []
        for work in list(works):
            work.after.clear()
            work.cancel()
            if work.task is not None:
                tasks.append(work.task)
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_S)

    async def _leave(self, consumer: AIOKafkaConsumer) -> None:
        """Leave the group, so that others need not wait for the session to time out.

        A static member stays one, as it is about to come back; unless it is drained. Then it has
        to be forgotten what it knew of its assignment, which is over.
        """
        self._consumer = None
        if self._drained and not self._stopping.is_set():
            consumer._coordinator._group_instance_id = None  # noqa: SLF001 - else it says nothing
            self._offsets, self._assignor = Offsets(), new_assignor()
            self._leaving, self._oldest, self._ends = {}, {}, {}
            for topic in self._routes:
                metrics.CONSUMER_LAG.labels(topic).set(0)
                metrics.CONSUMER_LAG_SECONDS.labels(topic).set(0)
        try:
            async with asyncio.timeout(LEAVE_S):
                await consumer.stop()
        except (KafkaError, TimeoutError) as error:
            log.warning("left without a word", action="leave", error=str(error) or repr(error))

    def fail(self, error: BaseException) -> None:
        """End the loop with this error at its next turn."""
        self._fatal = self._fatal or error
        self._room.set()

    def _raise_fatal(self) -> None:
        if self._fatal is not None:
            raise self._fatal

    # Telling

    def _context(self, work: Work, traceparent: str) -> WorkContext:
        return WorkContext(
            work,
            stage=self.name,
            worker=self.worker,
            traceparent=traceparent,
            publisher=self.publisher,
            watch=self._watch,
            watchdog=self.watchdog,
            clock=self.clock,
        )

    def _span(self, work: Work) -> telemetry.Span:
        about = {"job": work.job_id, "chunk": work.chunk_id}
        return telemetry.begin(
            f"{self.name} {work.first.raw.topic}",
            events.header(work.first.raw.headers, "traceparent"),
            "consumer",
            stage=self.name,
            partition=work.first.raw.partition,
            offset=work.first.raw.offset,
            **{name: value for name, value in about.items() if value},
        )

    def _tell(self, work: Work, span: telemetry.Span, status: str, why: str) -> None:
        """Of the end of a piece of work; a line that everybody sees only where a chunk is done."""
        if work.first.raw.topic in _UNRECORDED:
            return
        span.end(why, status=status, attempt=work.attempt)
        write = log.info if work.chunk_id and not self._endless else log.debug
        took_s = round(self.clock() - work.started_at, 3)
        write("done", action="work", topic=work.first.raw.topic, status=status, s=took_s)

    def _log_fields(self, work: Work) -> dict[str, str]:
        chunk = work.chunk_id
        task = task_id(chunk, work.attempt) if chunk else work.key[1]
        return {"task_id": task, "chunk": chunk, "phase": self.name, "job": work.job_id}

    def _count(self, work: Work, status: str) -> None:
        """Chunks that this stage is done with (the planner, which only hears of them, does not)."""
        if work.chunk_id and not self._endless:
            metrics.CHUNKS.labels(self.name, status).inc()
            metrics.CHUNK_DURATION.labels(self.name).observe(self.clock() - work.started_at)

    def _measure(self, consumer: AIOKafkaConsumer) -> None:
        """Records between what is done and the end of the log, and the age of the oldest.

        The oldest that is not done is in hand, or stands at the position of a partition of which
        nothing is in hand: then the log was asked how old it is.
        """
        behind = dict.fromkeys(self._routes, 0)
        written = {
            (each.raw.topic, each.raw.timestamp)
            for work in self._works.values()
            for each in work.held
        }
        for partition in consumer.assignment():
            position, ms = self._oldest.get(partition, (None, -1))
            reached = self._offsets.reached(partition)
            at = position if reached is None else reached
            end = max(consumer.highwater(partition) or 0, self._ends.get(partition, 0))
            if at is not None:
                behind[partition.topic] += max(0, end - at)
            if at == position and not self._offsets.in_hand(partition):
                written.add((partition.topic, ms))
        now_ms = time.time() * 1000
        for topic in self._routes:
            ages = [now_ms - ms for name, ms in written if name == topic and ms >= 0]
            metrics.CONSUMER_LAG.labels(topic).set(behind[topic])
            metrics.CONSUMER_LAG_SECONDS.labels(topic).set(max([0.0, *ages]) / 1000)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Passes rebalances on. The client swallows what is raised here, so it is told to the loop."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def on_partitions_revoked(self, revoked: object) -> None:  # noqa: ARG002 - the client's
        try:
            await self._stage.on_revoked()
        except Exception as error:  # noqa: BLE001 - see above
            self._stage.fail(error)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        try:
            await self._stage.on_assigned(assigned)
        except Exception as error:  # noqa: BLE001 - see above
            self._stage.fail(error)


def _may_fail_chunks(stage: str) -> bool:
    by_name = {topic.name: topic for topic in topics.registry()}
    return stage in by_name[topics.CHUNK_FAILED].writers


async def _unless(event: asyncio.Event, awaitable: Awaitable[T]) -> T | None:
    """Await something unless the event is set first, which cancels it: then None."""
    task = asyncio.ensure_future(awaitable)
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, waiting):
            each.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set before so many seconds have passed."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


def _unreadable(partition: TopicPartition, offset: int) -> ConsumerRecord[bytes, bytes]:
    """A record of which nothing is known but where it stands."""
    topic, number = partition
    return ConsumerRecord(topic, number, offset, -1, 0, None, None, None, -1, -1, ())


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
