//! Middlewares beyond the conformance lines: refusing, order between threads, panics, blocking, the end.

mod common;
#[path = "common/recorder.rs"]
mod recorder;

use common::{Gate, Log, PATIENCE, done, idle, lock, payload, within};
use recorder::{Recorder, Told};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use threadbus::{
    AnyEvent, AnyOutput, BoxError, EmitError, Event, EventBus, EventConcurrency, EventOptions, EventStatus,
    HandlerCompletion, HandlerConcurrency, HandlerContext, HandlerError, HandlerInfo, HandlerOptions, HandlerResult,
    Middleware, ResultStatus, Retry, Shutdown, WaitError,
};

payload!(Job { n: usize } => usize);
payload!(Note);

const SHORT: Duration = Duration::from_millis(50);

fn job(n: usize) -> Job {
    Job { n }
}

/// Refuses odd jobs.
struct Even;
impl Middleware for Even {
    fn on_emit(&self, _: &EventBus, event: &AnyEvent) -> Result<(), BoxError> {
        match event.payload::<Job>() {
            Some(job) if job.n % 2 == 1 => Err(format!("{} is odd", job.n).into()),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_refused_event_leaves_no_trace() {
    let recorder = Recorder::new();
    let bus = EventBus::builder("even").middleware(Even).middleware(recorder.clone()).build().unwrap();
    let mut seen = bus.subscribe::<Job>();
    bus.on(|job: &Event<Job>| job.n);
    bus.on(|_: &Event<Note>| -> Result<(), HandlerError> {
        let context = HandlerContext::current().ok_or("outside")?;
        let odd = context.bus().emit(Job { n: 3 }).wait();
        if matches!(odd, Err(WaitError::Rejected(EmitError::Refused { .. }))) { Ok(()) } else { Err("let pass".into()) }
    });

    let refused = bus.try_emit(job(1)).unwrap_err();
    assert_eq!(refused.payload.n, 1, "only a middleware that keeps the event keeps its payload");
    let EmitError::Refused { bus: label, reason } = refused.error else { panic!("{:?}", refused.error) };
    assert_eq!((&*label, &*reason), (bus.label(), "1 is odd"));

    let back = bus.emit(job(1));
    assert!(back.is_completed());
    assert!(matches!(back.wait(), Err(WaitError::Rejected(EmitError::Refused { .. }))));
    assert!(matches!(bus.emit_now(job(5)).wait(), Err(WaitError::Rejected(EmitError::Refused { .. }))));

    let note = done(&bus.emit(Note));
    assert!(note.errors().is_empty() && note.children().is_empty());
    let good = done(&bus.emit(job(2)));
    idle(&bus);
    assert_eq!(bus.history().iter().map(AnyEvent::id).collect::<Vec<_>>(), [note.id(), good.id()]);
    assert_eq!(seen.try_iter().map(|job| job.n).collect::<Vec<_>>(), [2]);
    let metrics = bus.metrics();
    assert_eq!((metrics.emitted, metrics.rejected, metrics.completed, metrics.cancelled), (2, 4, 2, 0));
    assert_eq!(recorder.events().len(), 2);
    assert_eq!(recorder.emits(), 2, "who comes after the one that refuses is not asked");
    recorder.check();
}

#[test]
fn what_a_middleware_keeps_cannot_come_back() {
    let (recorder, builder) = Recorder::on("kept");
    let bus = builder.middleware(Even).build().unwrap();
    let kept = bus.try_emit(job(1)).unwrap();
    assert!(matches!(kept.wait(), Err(WaitError::Rejected(EmitError::Refused { .. }))));
    assert_eq!(recorder.emits(), 1);
}

#[test]
fn a_forward_may_be_refused_where_it_arrives() {
    let (on_even, even) = Recorder::on("even");
    let (from, even) = (EventBus::new("from"), even.middleware(Even).build().unwrap());
    from.on(|job: &Event<Job>| job.n);
    let odd = done(&from.emit(job(1)));
    assert!(matches!(even.forward(&odd), Err(EmitError::Refused { .. })));
    assert_eq!((odd.path().len(), even.metrics().rejected), (1, 1));
    // It is complete, and yet goes its way on the other bus.
    let good = done(&from.emit(job(2)));
    even.forward(&good).unwrap();
    idle(&even);
    assert_eq!(on_even.statuses(&good), [EventStatus::Pending, EventStatus::Started, EventStatus::Completed]);
    assert_eq!(on_even.emits(), 2);
    even.forward(&good).unwrap();
    assert_eq!(on_even.emits(), 2, "asked once a bus");
}

#[test]
fn a_closed_bus_asks_nobody() {
    let (recorder, bus) = Recorder::on("closed");
    let bus = bus.build().unwrap();
    bus.on(|job: &Event<Job>| job.n);
    bus.on(|_: &Event<Note>| {});
    bus.shutdown(Shutdown::Drain, PATIENCE);
    assert!(matches!(bus.emit(job(0)).wait(), Err(WaitError::Rejected(EmitError::Closed { .. }))));
    assert_eq!(recorder.emits(), 0);
    assert_eq!(
        (recorder.handlers(true), recorder.handlers(false)),
        (vec!["Job".into(), "Note".into()], vec!["Job".into(), "Note".into()])
    );
    bus.on(|_: &Event<Note>| {});
    assert_eq!(recorder.handlers(true).len(), 2, "nothing was registered");
}

#[test]
fn all_hear_one_change_before_the_next_in_the_order_of_registration() {
    struct Named(&'static str, Log);
    impl Middleware for Named {
        fn on_emit(&self, _: &EventBus, _: &AnyEvent) -> Result<(), BoxError> {
            self.1.push(format_args!("{} emit", self.0));
            Ok(())
        }
        fn on_event_change(&self, _: &EventBus, _: &AnyEvent, status: EventStatus) {
            self.1.push(format_args!("{} {status:?}", self.0));
        }
    }
    let log = Log::new();
    let bus = EventBus::builder("order").middleware(Named("a", log.clone())).middleware(Named("b", log.clone()));
    let bus = bus.build().unwrap();
    done(&bus.emit(Note));
    let expected =
        ["a emit", "b emit", "a Pending", "b Pending", "a Started", "b Started", "a Completed", "b Completed"];
    assert_eq!(log.entries(), expected);
}

/// Fails the test if two calls for one event overlap.
#[derive(Clone, Default)]
struct OneAtATime(Arc<Mutex<(Vec<threadbus::EventId>, bool)>>);
impl OneAtATime {
    fn call(&self, event: &AnyEvent) {
        let mut state = lock(&self.0);
        state.1 |= state.0.contains(&event.id());
        state.0.push(event.id());
        drop(state);
        common::linger();
        lock(&self.0).0.retain(|id| *id != event.id());
    }
}
impl Middleware for OneAtATime {
    fn on_event_change(&self, _: &EventBus, event: &AnyEvent, _: EventStatus) {
        self.call(event);
    }
    fn on_result_change(&self, _: &EventBus, event: &AnyEvent, _: &HandlerResult<AnyOutput>) {
        self.call(event);
    }
}

#[test]
fn parallel_handlers_are_told_of_one_at_a_time() {
    let (recorder, bus) = Recorder::on("parallel");
    let overlap = OneAtATime::default();
    let bus = bus
        .middleware(overlap.clone())
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .max_history(None)
        .build()
        .unwrap();
    for _ in 0..6 {
        bus.on(|job: &Event<Job>| job.n);
    }
    bus.on(|job: &Event<Job>| -> Result<usize, HandlerError> {
        if job.n.is_multiple_of(5) {
            panic!("on purpose")
        }
        job.bus().emit(Note);
        if job.n.is_multiple_of(3) { Err("on purpose".into()) } else { Ok(job.n) }
    });
    thread::scope(|scope| {
        for _ in 0..4 {
            let (bus, recorder) = (&bus, &recorder);
            scope.spawn(move || {
                for n in 0..50 {
                    let job = done(&bus.emit(job(n)));
                    assert_eq!(recorder.results(&job).len(), 21, "all is told when a wait returns");
                    assert_eq!(recorder.statuses(&job).len(), 3);
                }
            });
        }
    });
    idle(&bus);
    assert!(!lock(&overlap.0).1, "two calls for one event at once");
    assert_eq!(recorder.events().len(), 200 + 160);
    recorder.check();
}

#[test]
fn panics_go_no_further() {
    struct Panics;
    impl Middleware for Panics {
        fn on_event_change(&self, _: &EventBus, _: &AnyEvent, _: EventStatus) {
            panic!("event");
        }
        fn on_result_change(&self, _: &EventBus, _: &AnyEvent, _: &HandlerResult<AnyOutput>) {
            panic!("result");
        }
        fn on_handlers_change(&self, _: &EventBus, _: &HandlerInfo, _: bool) {
            panic!("handlers");
        }
    }
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("drop");
        }
    }
    let recorder = Recorder::new();
    let bus = EventBus::builder("panics").middleware(Panics).middleware(recorder.clone()).build().unwrap();
    let logged = common::warnings_naming(bus.label());
    let info = bus.on(|job: &Event<Job>| job.n);
    let job = done(&bus.emit(job(7)));
    assert_eq!(job.result().unwrap(), 7);
    bus.off(&info);
    idle(&bus);
    recorder.check();
    let logged = logged();
    for (what, times) in [("on_event_change", 3), ("on_result_change", 3), ("on_handlers_change", 2)] {
        let lines: Vec<_> = logged.iter().filter(|line| line.contains(what)).collect();
        assert_eq!(lines.len(), times, "{what}: {logged:?}");
        let named = what == "on_handlers_change" || lines.iter().all(|line| line.contains(&job.to_string()));
        assert!(named, "{lines:?}");
    }
}

#[test]
fn a_result_ends_once_whoever_ends_it() {
    let (recorder, bus) = Recorder::on("ends");
    let bus = bus.handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
    let gate = Gate::new();
    let _open = gate.opener();
    let (late, running) = (gate.clone(), Gate::new());
    bus.on(|job: &Event<Job>| if job.n == 0 { Some(1) } else { None });
    let at_work = running.clone();
    bus.on(move |job: &Event<Job>| -> Result<Option<usize>, HandlerError> {
        at_work.open();
        if job.n == 0 {
            late.wait()
        } else {
            HandlerContext::current().ok_or("outside")?.sleep(PATIENCE)?
        }
        Ok(None)
    });
    // A lost first value, a handler's timeout, a cap of the event, a cancel of what runs.
    let first = bus.emit_with(job(0), EventOptions::new().completion(HandlerCompletion::First));
    done(&first);
    done(&bus.emit_with(job(1), EventOptions::new().handler_timeout(SHORT)));
    done(&bus.emit_with(job(2), EventOptions::new().timeout(SHORT)));
    let again = Gate::new();
    let running_again = again.clone();
    bus.on(move |job: &Event<Job>| {
        if job.n == 3 {
            running_again.open()
        }
        0
    });
    let cancelled = bus.emit(job(3));
    again.wait();
    assert!(cancelled.cancel());
    done(&cancelled);
    running.wait();
    // What never started.
    bus.pause();
    let queued = bus.emit(job(4));
    assert!(queued.cancel());
    assert!(matches!(queued.wait(), Err(WaitError::Cancelled)));
    bus.resume();
    gate.open();
    idle(&bus);
    assert_eq!(recorder.statuses(&queued), [EventStatus::Pending, EventStatus::Completed]);
    for result in recorder.results(&queued).chunks(2).flatten() {
        assert!(matches!(result.status, ResultStatus::Pending | ResultStatus::Error));
    }
    recorder.check();
}

#[test]
fn retries_change_nothing_until_the_last() {
    let (recorder, bus) = Recorder::on("retries");
    let bus = bus.build().unwrap();
    let retry = Retry::attempts(3).delay(Duration::from_millis(1));
    let info = bus.on_with(HandlerOptions::new().retry(retry), |_: &Event<Job>| -> Result<usize, HandlerError> {
        let attempt = HandlerContext::current().ok_or("outside")?.attempt();
        if attempt < 3 { Err("again".into()) } else { Ok(3) }
    });
    let job = done(&bus.emit(job(0)));
    let expected = [ResultStatus::Pending, ResultStatus::Started, ResultStatus::Completed];
    assert_eq!(recorder.of_handler(&job, &info), expected);
    assert_eq!(recorder.results(&job).iter().map(|result| result.attempts).collect::<Vec<_>>(), [0, 1, 3]);
}

#[test]
fn a_redrive_is_told_of_its_result_only() {
    let (recorder, bus) = Recorder::on("redrive");
    let bus = bus.dead_letters(10).build().unwrap();
    let online = Gate::new();
    let is_online = online.clone();
    let info = bus.on(move |job: &Event<Job>| if is_online.is_open() { Ok(job.n) } else { Err("offline") });
    let job = done(&bus.emit(job(1)));
    let statuses = recorder.statuses(&job);
    online.open();
    assert_eq!(bus.redrive(1).succeeded, 1);
    use ResultStatus::{Completed, Error, Pending, Started};
    assert_eq!(recorder.of_handler(&job, &info), [Pending, Started, Error, Pending, Started, Completed]);
    assert_eq!(recorder.statuses(&job), statuses);
}

#[test]
fn children_are_complete_before_their_parent() {
    let (recorder, bus) = Recorder::on("family");
    let bus = bus.build().unwrap();
    bus.on(|_: &Event<Note>| {});
    bus.on(|job: &Event<Job>| {
        job.bus().emit(Note);
        job.n
    });
    let job = done(&bus.emit(job(0)));
    let completed: Vec<_> = recorder
        .all()
        .into_iter()
        .filter_map(|told| match told {
            Told::Event(event, EventStatus::Completed) => Some(event.event_type().to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(completed, ["Note", "Job"]);
    assert_eq!(job.children().len(), 1);
    recorder.check();
}

/// Blocks in the calls that `when` chooses, until the gate opens.
struct Blocks(Gate, Gate, fn(&AnyEvent, EventStatus) -> bool);
impl Middleware for Blocks {
    fn on_event_change(&self, _: &EventBus, event: &AnyEvent, status: EventStatus) {
        if (self.2)(event, status) {
            self.0.open();
            self.1.wait();
        }
    }
}

#[test]
fn a_middleware_that_blocks_holds_no_lock() {
    let (entered, gate) = (Gate::new(), Gate::new());
    let _open = gate.opener();
    let (recorder, bus) = Recorder::on("blocks");
    let completed: fn(&AnyEvent, EventStatus) -> bool =
        |event, status| status == EventStatus::Completed && event.payload::<Job>().is_some_and(|job| job.n == 1);
    let bus = bus
        .middleware(Blocks(entered.clone(), gate.clone(), completed))
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .build()
        .unwrap();
    bus.on(|job: &Event<Job>| job.n);
    // On a thread of its own: whoever emits may come to tell of all that follows.
    let emitter = bus.clone();
    thread::spawn(move || emitter.emit(job(1)));
    entered.wait();
    let blocked = bus.find::<Job>().first().unwrap();
    let free = bus.clone();
    within(PATIENCE, move || {
        assert_eq!(done(&free.emit(job(2))).result().unwrap(), 2);
        let info = free.on(|_: &Event<Note>| {});
        assert!(free.off(&info));
        assert_eq!(free.history_len(), 2);
    });
    // It is complete; a wait that has time waits until that is told.
    assert!(blocked.is_completed() && !bus.is_idle());
    let (waiter, waited) = (blocked.clone(), Gate::new());
    let done_waiting = waited.clone();
    let thread = thread::spawn(move || {
        let result = waiter.wait().is_ok();
        done_waiting.open();
        result
    });
    assert!(blocked.wait_timeout(SHORT).is_ok());
    assert!(!waited.is_open());
    gate.open();
    assert!(thread.join().unwrap());
    idle(&bus);
    recorder.check();
}

#[test]
fn a_timeout_ends_on_time_beside_a_middleware_that_blocks() {
    let (entered, gate) = (Gate::new(), Gate::new());
    let _open = gate.opener();
    let first: fn(&AnyEvent, EventStatus) -> bool =
        |event, status| status == EventStatus::Completed && event.payload::<Job>().is_some_and(|job| job.n == 1);
    let bus = EventBus::builder("on time")
        .middleware(Blocks(entered.clone(), gate.clone(), first))
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .build()
        .unwrap();
    bus.on(|_: &Event<Job>| -> Result<usize, HandlerError> {
        HandlerContext::current().ok_or("outside")?.sleep(PATIENCE)?;
        Ok(0)
    });
    let short = || EventOptions::new().timeout(SHORT);
    // What the first deadline changed is told on a worker, so that the second is not held up.
    let one = bus.emit_with(job(1), short());
    entered.wait();
    let two = done(&bus.emit_with(job(2), short()));
    assert_eq!(two.errors().len(), 1);
    assert!(one.is_completed());
    gate.open();
    done(&one);
}

#[test]
fn a_bus_drops_its_middlewares_when_it_ends() {
    struct Last(Gate, #[expect(dead_code, reason = "kept")] Recorder);
    impl Middleware for Last {}
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.open();
        }
    }
    let (gone, recorder) = (Gate::new(), Recorder::new());
    let bus = EventBus::builder("ends").middleware(Last(gone.clone(), recorder.clone())).middleware(recorder.clone());
    let bus = bus.build().unwrap();
    bus.on(|job: &Event<Job>| job.n);
    let jobs: Vec<_> = (0..20).map(|n| bus.emit(job(n))).collect();
    drop(bus);
    gone.wait();
    assert_eq!(recorder.events().len(), 20);
    assert!(jobs.iter().all(Event::is_completed));
    recorder.check();
}
