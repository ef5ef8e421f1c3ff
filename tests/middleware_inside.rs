//! What a middleware may do in its calls: emit and register, not wait.

mod common;
#[path = "common/recorder.rs"]
mod recorder;

use common::{Gate, Log, PATIENCE, done, eventually, idle, lock, payload, within};
use recorder::Recorder;
use std::sync::{Arc, Mutex};
use std::thread;
use threadbus::{
    AnyEvent, AnyOutput, BoxError, Event, EventBus, EventStatus, HandlerContext, HandlerInfo, HandlerResult,
    Middleware, OnFull, WaitError, context,
};

payload!(Job { n: usize } => usize);
payload!(Note);

fn job(n: usize) -> Job {
    Job { n }
}

#[test]
fn waits_in_a_middleware_answer_deadlock_and_nothing_there_is_a_handler() {
    struct Tries(Log, Mutex<Option<EventBus>>);
    impl Tries {
        fn try_all(&self, bus: &EventBus, event: &AnyEvent) {
            let other = lock(&self.1).clone();
            let pending = other.as_ref().map(|other| other.emit(Note));
            let answers = [
                matches!(pending.map(|note| note.wait()), Some(Err(WaitError::Deadlock(_)))),
                matches!(bus.wait_until_idle(), Err(WaitError::Deadlock(_))),
                HandlerContext::current().is_none(),
                bus.redrive(1).succeeded == 0,
                context::get::<u8>().as_deref() == Some(&5),
                event.is_completed() || matches!(event.wait(), Err(WaitError::Deadlock(_))),
            ];
            self.0.push(format_args!("{answers:?}"));
        }
    }
    impl Middleware for Tries {
        fn on_emit(&self, bus: &EventBus, event: &AnyEvent) -> Result<(), BoxError> {
            self.try_all(bus, event);
            Ok(())
        }
        fn on_event_change(&self, bus: &EventBus, event: &AnyEvent, _: EventStatus) {
            self.try_all(bus, event);
        }
        fn on_result_change(&self, bus: &EventBus, event: &AnyEvent, _: &HandlerResult<AnyOutput>) {
            self.try_all(bus, event);
        }
    }
    let other = EventBus::new("other");
    other.pause();
    let log = Log::new();
    let bus =
        EventBus::builder("tries").middleware(Tries(log.clone(), Mutex::new(Some(other.clone())))).build().unwrap();
    bus.on(|job: &Event<Job>| job.n);
    let job = context::with(5u8, || bus.emit(job(1)));
    done(&job);
    assert_eq!(log.entries(), vec!["[true, true, true, true, true, true]"; 7]);
    assert!(job.children().is_empty());
    assert!(other.history().iter().all(|note| note.parent_id().is_none()));
}

/// Emits a note for each job that is complete, by `emit_now` if told to, and one in each `on_emit`.
struct Emits(bool);
impl Middleware for Emits {
    fn on_emit(&self, bus: &EventBus, _: &AnyEvent) -> Result<(), BoxError> {
        bus.emit(Note);
        Ok(())
    }
    fn on_event_change(&self, bus: &EventBus, event: &AnyEvent, status: EventStatus) {
        if status == EventStatus::Completed && event.is::<Job>() {
            if self.0 {
                bus.emit_now(Note)
            } else {
                bus.emit(Note)
            };
        }
    }
}

#[test]
fn a_middleware_may_emit() {
    for now in [false, true] {
        let (recorder, bus) = Recorder::on("emits");
        let bus = bus.middleware(Emits(now)).build().unwrap();
        bus.on(|_: &Event<Note>| {});
        // On a handler's thread, and on this one.
        bus.on(|job: &Event<Job>| {
            if job.n == 0 {
                drop(job.bus().emit(Job { n: 1 }))
            }
            job.n
        });
        let parent = done(&bus.emit(job(0)));
        idle(&bus);
        let notes: Vec<_> = bus.history().into_iter().filter(|event| event.is::<Note>()).collect();
        // One for each of two emits, and one for each of two completions.
        assert_eq!(notes.len(), 4);
        assert!(notes.iter().all(|note| note.parent_id().is_none() && note.is_completed()));
        assert_eq!(parent.children().len(), 1);
        assert_eq!(recorder.events().len(), 6);
        recorder.check();
    }
}

#[test]
fn two_that_emit_on_each_others_buses_come_to_an_end() {
    struct Across(Mutex<Option<threadbus::WeakBus>>);
    impl Middleware for Across {
        fn on_emit(&self, _: &EventBus, _: &AnyEvent) -> Result<(), BoxError> {
            let other = lock(&self.0).as_ref().and_then(|other| other.upgrade());
            if let Some(other) = other {
                other.emit(Note);
            }
            Ok(())
        }
    }
    struct Shared(Arc<Across>);
    impl Middleware for Shared {
        fn on_emit(&self, bus: &EventBus, event: &AnyEvent) -> Result<(), BoxError> {
            self.0.on_emit(bus, event)
        }
    }
    let (to_a, to_b) = (Arc::new(Across(Mutex::new(None))), Arc::new(Across(Mutex::new(None))));
    let a = EventBus::builder("a").middleware(Shared(to_b.clone())).build().unwrap();
    let b = EventBus::builder("b").middleware(Shared(to_a.clone())).build().unwrap();
    *lock(&to_a.0) = Some(a.downgrade());
    *lock(&to_b.0) = Some(b.downgrade());
    done(&a.emit(job(0)));
    idle(&a);
    idle(&b);
    // On `b` since `a`'s was asked, on `a` since `b`'s was; then both are at it.
    assert_eq!((a.history_len(), b.history_len()), (2, 1));
}

#[test]
fn a_full_queue_neither_blocks_a_middleware_nor_runs_inside_it() {
    for on_full in [OnFull::Block, OnFull::RunInline] {
        let gate = Gate::new();
        let _open = gate.opener();
        let (recorder, bus) = Recorder::on("full");
        let bus = bus.middleware(Emits(false)).queue_capacity(1, on_full).build().unwrap();
        bus.on(|_: &Event<Note>| {});
        let (entered, stand) = (Gate::new(), gate.clone());
        let at_work = entered.clone();
        bus.on(move |job: &Event<Job>| {
            at_work.open();
            stand.wait();
            job.n
        });
        // The note of this emit is first, then the job itself, while the queue has room or somebody makes some.
        let other = bus.clone();
        let emitter = thread::spawn(move || other.emit(job(0)));
        entered.wait();
        gate.open();
        let job = within(PATIENCE, move || emitter.join().unwrap());
        done(&job);
        idle(&bus);
        recorder.check();
    }
}

#[test]
fn handlers_that_come_and_go_from_a_middleware() {
    struct Registers(Log);
    impl Middleware for Registers {
        fn on_handlers_change(&self, bus: &EventBus, handler: &HandlerInfo, registered: bool) {
            self.0.push(format_args!("{} {registered}", handler.pattern()));
            if handler.pattern() == "Job" && registered {
                bus.on(|_: &Event<Note>| {});
            }
        }
    }
    let log = Log::new();
    let bus = EventBus::builder("registers").middleware(Registers(log.clone())).build().unwrap();
    let info = bus.on(|job: &Event<Job>| job.n);
    assert!(bus.off(&info));
    eventually(|| log.len() == 3);
    assert_eq!((log.position("Job true"), bus.handlers().len()), (0, 1));
    assert_eq!((log.count("Note true"), log.count("Job false")), (1, 1));
}
