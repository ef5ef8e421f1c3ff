//! What the models share: how many schedules, buses, payloads, and what must hold at rest.
#![allow(dead_code, reason = "every model uses its own part of this module")]

use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use shuttle::thread;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;
use threadbus::*;

pub struct Job(pub u32);
impl Payload for Job {
    type Output = u32;
}
pub struct Child(pub u32);
impl Payload for Child {
    type Output = u32;
}
pub struct Next;
impl Payload for Next {
    type Output = ();
}
pub struct Other;
impl Payload for Other {
    type Output = ();
}

/// Earlier than any default, so that what has it runs on another worker than its waiter.
pub const SHORT: Duration = Duration::from_secs(5);

/// Runs a model on `THREADBUS_SCHEDULES` random schedules (default 2,000), and on half as many with few preemptions: what needs one
/// thread to stand still for long is hardly ever found by chance, and the other way round. `THREADBUS_DEPTH=3` takes only those with
/// that many. On failure prints how many it took, and the schedule; `THREADBUS_REPLAY=FILE` runs the one in that file.
pub fn check(model: impl Fn() + Send + Sync + 'static) {
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let schedules = number("THREADBUS_SCHEDULES").unwrap_or(2_000);
    let (model, ran) = (Arc::new(model), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let counted = || {
        let (model, ran) = (Arc::clone(&model), Arc::clone(&ran));
        move || {
            ran.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            model();
        }
    };
    let few_preemptions = |schedules, depth| {
        let model = counted();
        // A second thread, since that scheduler wants one.
        let with_another = move || {
            thread::spawn(|| ()).join().unwrap();
            model();
        };
        shuttle::check_pct(with_another, schedules, depth);
    };
    let checked =
        catch_unwind(AssertUnwindSafe(|| match (std::env::var("THREADBUS_REPLAY"), number("THREADBUS_DEPTH")) {
            (Ok(file), _) => shuttle::replay_from_file(counted(), &file),
            (Err(_), Some(depth)) => few_preemptions(schedules, depth),
            (Err(_), None) => {
                shuttle::check_random(counted(), schedules);
                few_preemptions(schedules / 4, 3);
                few_preemptions(schedules / 4, 6);
            }
        }));
    if let Err(failure) = checked {
        println!("failed on schedule {}", ran.load(std::sync::atomic::Ordering::Relaxed));
        resume_unwind(failure);
    }
}

pub fn runtime() -> Runtime {
    Runtime::builder().max_threads(8).build().unwrap()
}

pub fn bus(runtime: &Runtime, name: &str) -> EventBus {
    EventBus::builder(name).runtime(runtime).build().unwrap()
}

/// Options of a handler under this limit.
pub fn limited(limit: &Limit) -> HandlerOptions {
    HandlerOptions::new().limit(limit.clone())
}

pub fn free() -> EventOptions {
    EventOptions::new().concurrency(EventConcurrency::Parallel)
}

pub fn until(happened: impl Fn() -> bool) {
    while !happened() {
        thread::yield_now();
    }
}

/// Long enough for what must not happen.
pub fn a_while() {
    (0..200).for_each(|_| thread::yield_now());
}

/// One to look at, one to set.
pub fn flag() -> (Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let flag = Arc::new(AtomicUsize::new(0));
    (Arc::clone(&flag), flag)
}

/// A handler that stays until it is given up.
pub fn stay() {
    let context = HandlerContext::current().unwrap();
    until(|| context.is_cancelled());
}

/// Counts live handlers; more than one at a time on a serial bus is the bug.
#[derive(Default)]
pub struct Alone(AtomicUsize);
impl Alone {
    pub fn run(&self, body: impl FnOnce()) {
        assert_eq!(self.0.fetch_add(1, SeqCst), 0, "two live handlers on a serial bus");
        thread::yield_now();
        body();
        self.0.fetch_sub(1, SeqCst);
    }
}

/// A panic that prints nothing: the model checker takes a printed one for its own.
pub fn quiet_panic() -> ! {
    resume_unwind(Box::new("on purpose"))
}

/// The clock of a model: once the event has started deadlines pass, and timers fire until it is over.
pub fn time_passes<P: Payload>(runtime: &Runtime, of: &Event<P>) -> thread::JoinHandle<()> {
    let (runtime, event) = (runtime.clone(), of.clone());
    thread::spawn(move || {
        while event.status() == EventStatus::Pending {
            thread::yield_now();
        }
        runtime.model_deadlines_pass();
        timers_fire_until(&runtime, || event.is_completed());
    })
}

pub fn timers_fire_until(runtime: &Runtime, over: impl Fn() -> bool) {
    while !over() {
        runtime.model_timers_fire();
        thread::yield_now();
    }
}

/// Waits until the bus is idle, and checks its books.
pub fn at_rest(bus: &EventBus) {
    bus.wait_until_idle().unwrap();
    let m = bus.metrics();
    assert_eq!(m.emitted, m.completed + m.cancelled + m.dropped, "{m:?}");
    assert_eq!((m.queued, m.in_flight, m.waiting), (0, 0, 0), "{m:?}");
    nothing_left(&bus.runtime());
}

/// Waits until the other buses of a runtime are idle too and its threads have gone: then nobody holds anything, and no timer is set.
pub fn nothing_left(runtime: &Runtime) {
    for _ in 0..20_000 {
        if runtime.model_left().is_empty() {
            return;
        }
        thread::yield_now();
    }
    panic!("left at rest: {}", runtime.model_left());
}

/// Every result of a completed event is final, and has a value or an error or neither.
pub fn settled<P: Payload>(event: &Event<P>) {
    assert!(event.is_completed());
    for result in event.results() {
        let is_final = matches!(result.status, ResultStatus::Completed | ResultStatus::Error);
        assert!(is_final && !(result.value.is_some() && result.error.is_some()), "a result that is not final");
    }
}
