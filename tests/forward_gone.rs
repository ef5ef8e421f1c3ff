//! Forwards to buses that are gone are gone: by type, for all, in chains and circles, and whoever drops the last handle.

mod common;

use common::{Gate, Log, done, eventually, idle, lock, payload};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use threadbus::{Event, EventBus, EventConcurrency, HandlerInfo, Middleware, Runtime};

payload!(Job { n: u32 } => u32);
payload!(Other);

fn labels(bus: &EventBus) -> Vec<String> {
    bus.handlers().iter().map(|info| info.name().to_owned()).collect()
}

#[test]
fn forwards_by_type_and_for_all_go_with_their_target() {
    let (hub, stays) = (EventBus::new("Hub"), EventBus::new("Stays"));
    hub.on(|job: &Event<Job>| job.n);
    let kept = [hub.forward_to::<Job>(&stays), hub.forward_all_to(&stays)];
    let goes = EventBus::new("Goes");
    let gone = [hub.forward_to::<Job>(&goes), hub.forward_all_to(&goes), hub.forward_to::<Other>(&goes)];
    assert_eq!(hub.handlers().len(), 6);
    let clone = goes.clone();
    drop(goes);
    assert_eq!(hub.handlers().len(), 6, "a handle is left");
    drop(clone);
    assert_eq!(hub.handlers().len(), 3);
    assert!(gone.iter().all(|info| !info.is_registered()) && kept.iter().all(HandlerInfo::is_registered));
    assert!(!hub.off(&gone[0]), "it was ended before");
    let event = done(&hub.emit(Job { n: 7 }));
    assert_eq!((event.results().len(), event.path().len()), (3, 2));
    assert!(done(&hub.emit(Other)).results().iter().all(|result| result.handler.name() == kept[1].name()));
}

#[test]
fn thousands_of_targets_that_come_and_go_leave_nothing_and_cost_nothing() {
    let hub = EventBus::new("Hub");
    hub.on(|job: &Event<Job>| job.n);
    let time = || {
        let began = Instant::now();
        (0..200).for_each(|n| drop(done(&hub.emit(Job { n }))));
        began.elapsed()
    };
    let first = time();
    for n in 0..3000 {
        let session = EventBus::new(&format!("Session{n}"));
        if n % 2 == 0 {
            hub.forward_all_to(&session)
        } else {
            hub.forward_to::<Job>(&session)
        };
        if n % 50 == 0 {
            done(&hub.emit(Job { n }));
        }
    }
    assert_eq!(hub.handlers().len(), 1);
    // All at once, too.
    let sessions: Vec<EventBus> = (0..2000).map(|n| EventBus::new(&format!("Session{n}"))).collect();
    sessions.iter().for_each(|session| drop(hub.forward_to::<Other>(session)));
    assert_eq!(hub.handlers().len(), 2001);
    drop(sessions);
    assert_eq!(hub.handlers().len(), 1);
    let last = (0..3).map(|_| time()).min().unwrap();
    assert!(last < 10 * first.max(Duration::from_millis(2)), "{first:?} at first, {last:?} after");
}

/// The other way round: sources come and go, and the target does not remember them all.
#[test]
fn thousands_of_sources_are_forgotten_by_a_target_that_stays() {
    common::in_a_process_of_its_own("thousands_of_sources_are_forgotten_by_a_target_that_stays", || {
        let hub = EventBus::new("Hub");
        let grown = || {
            for n in 0..3000 {
                let source = EventBus::new(&format!("Source{n}"));
                let info = source.forward_all_to(&hub);
                if n % 2 == 0 {
                    assert!(source.off(&info));
                }
            }
            common::process_status("RssAnon:")
        };
        let first = grown();
        let last = (0..3).map(|_| grown()).min().unwrap();
        assert!(last < first + 4096, "{first} kB, then {last} kB");
    });
}

#[test]
fn chains_lose_what_is_gone_and_keep_the_rest() {
    let buses: Vec<EventBus> = (0..100).map(|n| EventBus::new(&format!("Link{n}"))).collect();
    buses.windows(2).for_each(|pair| drop(pair[0].forward_all_to(&pair[1])));
    let mut buses: Vec<_> = buses.into_iter().map(Some).collect();
    let path = |buses: &[Option<EventBus>]| done(&buses[0].as_ref().unwrap().emit(Job { n: 0 })).path().len();
    assert_eq!(path(&buses), 100);
    buses[50] = None;
    assert_eq!(path(&buses), 50);
    assert!(buses[49].as_ref().unwrap().handlers().is_empty());
    assert_eq!(buses[51].as_ref().unwrap().handlers().len(), 1);
    buses.truncate(20);
    assert_eq!(path(&buses), 20);
    assert!(buses[19].as_ref().unwrap().handlers().is_empty());
}

#[test]
fn circles_come_apart() {
    for size in [1, 2, 3, 10] {
        let mut buses: Vec<EventBus> = (0..size).map(|n| EventBus::new(&format!("Ring{n}"))).collect();
        (0..size).for_each(|n| drop(buses[n].forward_all_to(&buses[(n + 1) % size])));
        let event = done(&buses[0].emit(Job { n: 0 }));
        assert_eq!(event.path().len(), size);
        buses.iter().for_each(idle);
        while buses.len() > 1 {
            drop(buses.pop());
            assert!(buses.last().unwrap().handlers().is_empty(), "its successor is gone");
        }
        let weak = buses[0].downgrade();
        drop(buses);
        assert!(weak.upgrade().is_none());
    }
}

/// The last handle goes while an event is on its way there, in every place it can be.
#[test]
fn a_bus_that_goes_while_it_is_forwarded_to_takes_what_it_has() {
    for parallel in [false, true] {
        let mode = if parallel { EventConcurrency::Parallel } else { EventConcurrency::BusSerial };
        let hub = EventBus::builder("Hub").event_concurrency(mode).build().unwrap();
        let (gate, inside, log) = (Gate::new(), Gate::new(), Log::new());
        let _opener = gate.opener();
        let target = EventBus::new("Target");
        target.on({
            let (gate, inside, log) = (gate.clone(), inside.clone(), log.clone());
            move |job: &Event<Job>| {
                inside.open();
                gate.wait();
                log.push(job.n);
                job.n
            }
        });
        // Before the forward, so that the last handle can go between the claim and the forward.
        let slot = Arc::new(Mutex::new(None));
        hub.on({
            let slot = Arc::clone(&slot);
            move |job: &Event<Job>| {
                if job.n == 2 {
                    drop(lock(&slot).take());
                }
                None
            }
        });
        let info = hub.forward_all_to(&target);
        *lock(&slot) = Some(target);
        let (running, queued) = (hub.emit(Job { n: 0 }), hub.emit(Job { n: 1 }));
        inside.wait();
        eventually(|| queued.path().len() == 2);
        let late = hub.emit(Job { n: 2 });
        done(&late);
        assert!(!info.is_registered() && labels(&hub).len() == 1);
        assert_eq!(late.path().len(), 1, "its target was gone when its turn came");
        gate.open();
        done(&running);
        done(&queued);
        assert_eq!(log.entries(), ["0", "1"], "what it had is finished");
        assert_eq!(done(&hub.emit(Job { n: 3 })).results().len(), 1);
    }
}

#[test]
fn a_handle_that_is_dropped_inside_of_the_forwarding_handlers_is_no_trouble() {
    let hub = EventBus::builder("Hub").event_concurrency(EventConcurrency::Parallel).build().unwrap();
    for round in 0..200 {
        let target = EventBus::new("Target");
        target.on(|job: &Event<Job>| job.n);
        hub.forward_all_to(&target);
        hub.forward_to::<Job>(&target);
        let events: Vec<_> = (0..4).map(|n| hub.emit(Job { n })).collect();
        if round % 2 == 0 {
            std::thread::yield_now();
        }
        // Some of them are inside of the forward now, and have the last handle then.
        drop(target);
        events.iter().for_each(|event| drop(done(event)));
        idle(&hub);
        eventually(|| hub.handlers().is_empty());
    }
}

#[test]
fn a_forward_to_a_bus_that_only_its_own_handlers_know_is_none() {
    let hub = EventBus::new("Hub");
    let target = EventBus::new("Target");
    let (gate, inside) = (Gate::new(), Gate::new());
    let _opener = gate.opener();
    let seen = Arc::new(Mutex::new(None));
    target.on({
        let (hub, gate, inside, seen) = (hub.clone(), gate.clone(), inside.clone(), Arc::clone(&seen));
        move |job: &Event<Job>| {
            inside.open();
            gate.wait();
            let info = hub.forward_all_to(&job.bus());
            *lock(&seen) = Some(info.is_registered());
            job.n
        }
    });
    let event = target.emit(Job { n: 1 });
    inside.wait();
    drop(target);
    gate.open();
    done(&event);
    assert_eq!(*lock(&seen), Some(false));
    assert!(hub.handlers().is_empty());
}

struct Tells(Log, Arc<Mutex<()>>);

impl Middleware for Tells {
    fn on_handlers_change(&self, bus: &EventBus, handler: &HandlerInfo, registered: bool) {
        // Whatever it does must not meet a lock of who dropped the handle.
        drop(bus.handlers());
        drop(lock(&self.1));
        self.0.push(format_args!("{} {registered}", handler.pattern()));
    }
}

#[test]
fn middlewares_are_told_and_never_on_the_thread_that_drops_the_handle() {
    let log = Log::new();
    let theirs = Arc::new(Mutex::new(()));
    let hub = EventBus::builder("Told").middleware(Tells(log.clone(), Arc::clone(&theirs))).build().unwrap();
    let target = EventBus::new("Target");
    hub.forward_all_to(&target);
    hub.forward_to::<Job>(&target);
    {
        let _held = lock(&theirs);
        drop(target);
        assert!(hub.handlers().is_empty());
    }
    eventually(|| log.len() == 4);
    assert_eq!(log.entries(), ["* true", "Job true", "* false", "Job false"]);
    idle(&hub);
}

#[test]
fn buses_of_other_runtimes_manual_and_closed_ones_go_too() {
    let runtime = Runtime::builder().max_threads(2).build().unwrap();
    let hub = EventBus::builder("Hub").manual().build().unwrap();
    let targets = [
        EventBus::builder("There").runtime(&runtime).build().unwrap(),
        EventBus::builder("Manual").manual().build().unwrap(),
        EventBus::new("Closed"),
    ];
    targets.iter().for_each(|target| drop(hub.forward_all_to(target)));
    targets[2].shutdown(threadbus::Shutdown::Now, Duration::ZERO);
    assert_eq!(hub.handlers().len(), 3, "who has a handle may see what is refused");
    drop(targets);
    assert!(hub.handlers().is_empty());
    hub.shutdown(threadbus::Shutdown::Now, Duration::ZERO);
    let target = EventBus::new("Late");
    assert!(!hub.forward_all_to(&target).is_registered());
    drop(target);
}
