//! LOCK: which events and handlers run at once, and who decides that. With BF-20 to BF-23. Permits are in `lock_permits.rs`.

mod common;
#[path = "common/modes.rs"]
mod modes;

use common::{Gate, Gauge, Log, clean, eventually, idle, in_order, linger, lock, logs_around};
use modes::*;
use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use threadbus::{Event, EventBus, EventOptions, HandlerOptions, Payload, ResultStatus, Runtime};

/// `each` events on two buses, alternating; their handlers linger. Returns the most in flight, and the starts per bus.
fn interleaved(a: &EventBus, b: &EventBus, each: usize) -> (usize, Vec<usize>, Vec<usize>) {
    let gauge = Gauge::new();
    let starts: Vec<Arc<Mutex<Vec<usize>>>> = vec![Arc::default(), Arc::default()];
    for (bus, starts) in [a, b].into_iter().zip(&starts) {
        let (gauge, starts) = (gauge.clone(), Arc::clone(starts));
        bus.on(move |job: &Event<Job>| {
            gauge.enter();
            lock(&starts).push(job.n);
            linger();
            gauge.leave();
        });
    }
    let events: Vec<_> = (0..each).flat_map(|n| [a.emit(Job { n }), b.emit(Job { n })]).collect();
    events.iter().for_each(clean);
    let [a, b] = [lock(&starts[0]).clone(), lock(&starts[1]).clone()];
    (gauge.peak(), a, b)
}

#[test]
fn lock_001_global_serial_events_run_one_at_a_time_over_all_buses() {
    let runtime = runtime();
    let [a, b] = ["Lock001A", "Lock001B"].map(|name| bus_on(&runtime, name, Events::GlobalSerial, Handlers::BusSerial));
    let (peak, on_a, on_b) = interleaved(&a, &b, 3);
    assert_eq!(peak, 1);
    assert_eq!((on_a, on_b), (vec![0, 1, 2], vec![0, 1, 2]));
}

#[test]
fn lock_003_global_serial_handlers_run_one_at_a_time_over_all_buses() {
    let runtime = runtime();
    let [a, b] = ["Lock003A", "Lock003B"].map(|name| bus_on(&runtime, name, Events::Parallel, Handlers::GlobalSerial));
    let (peak, on_a, on_b) = interleaved(&a, &b, 4);
    assert_eq!(peak, 1);
    assert_eq!((on_a.len(), on_b.len()), (4, 4));
}

#[test]
fn lock_004_buses_run_beside_each_other() {
    let runtime = runtime();
    let [a, b] = ["Lock004A", "Lock004B"].map(|name| bus_on(&runtime, name, Events::BusSerial, Handlers::BusSerial));
    let (all, started) = (Gauge::new(), [Gate::new(), Gate::new()]);
    let own = [Gauge::new(), Gauge::new()];
    for (bus, this) in [(&a, 0), (&b, 1)] {
        let (all, own, started) = (all.clone(), own[this].clone(), started.clone());
        bus.on(move |_: &Event<Job>| {
            own.enter();
            all.enter();
            started[this].open();
            started[1 - this].wait();
            linger();
            all.leave();
            own.leave();
        });
    }
    let events = [a.emit(Job { n: 0 }), a.emit(Job { n: 1 }), b.emit(Job { n: 0 }), b.emit(Job { n: 1 })];
    events.iter().for_each(clean);
    assert_eq!(own.map(|gauge| gauge.peak()), [1, 1]);
    assert_eq!(all.peak(), 2, "the first of each met the first of the other");
}

#[test]
fn lock_005_each_serial_bus_keeps_its_order() {
    let runtime = runtime();
    let [a, b] = ["Lock005A", "Lock005B"].map(|name| bus_on(&runtime, name, Events::BusSerial, Handlers::BusSerial));
    let (_, on_a, on_b) = interleaved(&a, &b, 4);
    assert_eq!((on_a, on_b), (vec![0, 1, 2, 3], vec![0, 1, 2, 3]));
}

#[test]
fn lock_006_a_jump_on_one_bus_does_not_hold_up_another() {
    let runtime = runtime();
    let [a, b] = ["Lock006A", "Lock006B"].map(|name| bus_on(&runtime, name, Events::BusSerial, Handlers::BusSerial));
    let (log, other_ran, child_runs) = (Log::new(), Gate::new(), Gate::new());
    logs_around::<Child>(&a, &log, "child", {
        let (other_ran, child_runs) = (other_ran.clone(), child_runs.clone());
        move |_| {
            child_runs.open();
            other_ran.wait();
            Ok(())
        }
    });
    logs_around::<Parent>(&a, &log, "parent", |event| event.bus().emit(Child).wait().map(drop));
    logs_around::<Other>(&b, &log, "other", move |_| {
        other_ran.open();
        Ok(())
    });
    let parent = a.emit(Parent);
    child_runs.wait();
    clean(&b.emit(Other));
    clean(&parent);
    in_order(&log, &["child_start", "other_start", "parent_end"]);
}

#[test]
fn lock_007_parallel_events_run_at_once() {
    let bus = bus("Lock007", Events::Parallel, Handlers::Parallel);
    let (gauge, gate) = (Gauge::new(), Gate::new());
    bus.on(gated(&gauge, &gate));
    let events = [bus.emit(Job { n: 0 }), bus.emit(Job { n: 1 })];
    exactly(2, &gauge, &gate, &events);
}

#[test]
fn handlers_set_to_parallel_one_by_one_take_parallel_events_at_once() {
    let bus = bus("OneByOne", Events::Parallel, Handlers::BusSerial);
    let (gauge, gate) = (Gauge::new(), Gate::new());
    bus.on_with(HandlerOptions::new().concurrency(Handlers::Parallel), gated(&gauge, &gate));
    let events = [bus.emit(Job { n: 0 }), bus.emit(Job { n: 1 })];
    exactly(2, &gauge, &gate, &events);
}

#[test]
fn beside_a_parallel_handler_a_bus_serial_one_is_alone_among_parallel_events() {
    let bus = bus("Mixed", Events::Parallel, Handlers::BusSerial);
    let ([serial, parallel], gate) = ([(); 2].map(|()| Gauge::new()), Gate::new());
    bus.on(gated(&serial, &gate));
    bus.on_with(HandlerOptions::new().concurrency(Handlers::Parallel), gated(&parallel, &gate));
    let events = [0, 1, 2].map(|n| bus.emit(Job { n }));
    let _opener = gate.opener();
    eventually(|| parallel.peak() == 3 && serial.peak() == 1);
    gate.open();
    for event in &events {
        clean(event);
    }
    assert_eq!((serial.peak(), parallel.peak()), (1, 3));
}

#[test]
fn lock_009_one_global_serial_handler_over_two_parallel_buses() {
    let runtime = runtime();
    let [a, b] = ["Lock009A", "Lock009B"].map(|name| bus_on(&runtime, name, Events::Parallel, Handlers::GlobalSerial));
    let (gauge, gate) = (Gauge::new(), Gate::new());
    for bus in [&a, &b] {
        bus.on(gated(&gauge, &gate));
    }
    exactly(1, &gauge, &gate, &[a.emit(Job { n: 0 }), b.emit(Job { n: 1 })]);
}

#[test]
fn lock_010_an_event_may_be_parallel_on_a_serial_bus() {
    let bus = bus("Lock010", Events::BusSerial, Handlers::Parallel);
    let (gauge, gate) = (Gauge::new(), Gate::new());
    bus.on(gated(&gauge, &gate));
    let events = [0, 1].map(|n| bus.emit_with(Job { n }, EventOptions::new().concurrency(Events::Parallel)));
    exactly(2, &gauge, &gate, &events);
}

#[test]
fn lock_011_an_event_may_be_serial_on_a_parallel_bus() {
    let bus = bus("Lock011", Events::Parallel, Handlers::Parallel);
    let (gauge, gate) = (Gauge::new(), Gate::new());
    bus.on(gated(&gauge, &gate));
    let events = [0, 1].map(|n| bus.emit_with(Job { n }, EventOptions::new().concurrency(Events::BusSerial)));
    exactly(1, &gauge, &gate, &events);
}

#[test]
fn lock_012_the_event_beats_the_handler_option() {
    let bus = bus("Lock012", Events::BusSerial, Handlers::Parallel);
    let (gauge, gate) = (Gauge::new(), Gate::new());
    for _ in 0..2 {
        bus.on_with(HandlerOptions::new().concurrency(Handlers::Parallel), gated(&gauge, &gate));
    }
    let serial = EventOptions::new().handler_concurrency(Handlers::BusSerial);
    exactly(1, &gauge, &gate, &[bus.emit_with(Job { n: 0 }, serial)]);
}

#[derive(Clone)]
struct Single(Gauge, Gate);
impl Payload for Single {
    type Output = ();
    fn event_type() -> &'static str {
        "Single"
    }
    fn options() -> EventOptions {
        EventOptions::new().handler_concurrency(Handlers::EventSerial)
    }
}

/// What a payload's type says counts as the event's; `emit_with` beats it.
#[test]
fn lock_012b_the_types_options_beat_the_handlers_and_emit_with_beats_both() {
    let bus = bus("Lock012b", Events::BusSerial, Handlers::Parallel);
    for _ in 0..2 {
        bus.on_with(HandlerOptions::new().concurrency(Handlers::Parallel), |event: &Event<Single>| {
            event.0.enter();
            event.1.wait();
            event.0.leave();
        });
    }
    let of_type = Single(Gauge::new(), Gate::new());
    let _opener = of_type.1.opener();
    let event = bus.emit(of_type.clone());
    eventually(|| of_type.0.peak() == 1);
    linger();
    of_type.1.open();
    clean(&event);
    assert_eq!(of_type.0.peak(), 1);

    let of_emit = Single(Gauge::new(), Gate::new());
    let _opener = of_emit.1.opener();
    let parallel = EventOptions::new().handler_concurrency(Handlers::Parallel);
    let event = bus.emit_with(of_emit.clone(), parallel);
    eventually(|| of_emit.0.peak() == 2);
    of_emit.1.open();
    clean(&event);
}

#[test]
fn lock_015_global_serial_handler_options_hold_on_parallel_buses() {
    let runtime = runtime();
    let [a, b] = ["Lock015A", "Lock015B"].map(|name| bus_on(&runtime, name, Events::Parallel, Handlers::Parallel));
    let (gauge, gate) = (Gauge::new(), Gate::new());
    for bus in [&a, &b] {
        bus.on_with(HandlerOptions::new().concurrency(Handlers::GlobalSerial), gated(&gauge, &gate));
    }
    exactly(1, &gauge, &gate, &[a.emit(Job { n: 0 }), b.emit(Job { n: 1 })]);
}

#[test]
fn lock_016_global_serial_events_with_parallel_handlers() {
    let runtime = runtime();
    let [a, b] = ["Lock016A", "Lock016B"].map(|name| bus_on(&runtime, name, Events::GlobalSerial, Handlers::Parallel));
    let (gauge, gate) = (Gauge::new(), Gate::new());
    for bus in [&a, &a, &b, &b] {
        bus.on(gated(&gauge, &gate));
    }
    exactly(2, &gauge, &gate, &[a.emit(Job { n: 0 }), b.emit(Job { n: 1 })]);
    assert_eq!(gauge.peak(), 2, "the second event begins after the first");
}

#[test]
fn lock_019_bus_serial_handlers_of_two_buses_run_at_once() {
    let runtime = runtime();
    let [a, b] = ["Lock019A", "Lock019B"].map(|name| bus_on(&runtime, name, Events::Parallel, Handlers::BusSerial));
    let (gauge, gate) = (Gauge::new(), Gate::new());
    for bus in [&a, &b] {
        bus.on(gated(&gauge, &gate));
    }
    exactly(2, &gauge, &gate, &[a.emit(Job { n: 0 }), b.emit(Job { n: 1 })]);
}

#[test]
fn lock_021_an_unset_mode_is_the_buss() {
    let bus = bus("Lock021", Events::BusSerial, Handlers::BusSerial);
    let (gauge, gate) = (Gauge::new(), Gate::new());
    for _ in 0..2 {
        bus.on(gated(&gauge, &gate));
    }
    exactly(1, &gauge, &gate, &[bus.emit_with(Job { n: 0 }, EventOptions::new())]);
}

#[test]
fn bf_020_emit_does_not_wait_for_handlers() {
    let bus = bus("Bf020", Events::BusSerial, Handlers::BusSerial);
    let gate = Gate::new();
    let _opener = gate.opener();
    bus.on({
        let gate = gate.clone();
        move |_: &Event<Job>| gate.wait()
    });
    let start = Instant::now();
    let events: Vec<_> = (0..10).map(|n| bus.emit(Job { n })).collect();
    assert!(start.elapsed() < 10 * Duration::from_millis(50));
    assert!(events.iter().all(|event| !event.is_completed()));
    gate.open();
    events.iter().for_each(clean);
}

#[test]
fn bf_021_four_workers_meet_at_a_barrier_of_four() {
    let runtime = Runtime::builder().max_threads(4).build().expect("a runtime");
    let bus = bus_on(&runtime, "Bf021", Events::Parallel, Handlers::Parallel);
    let meeting = Meeting::of(4);
    bus.on(move |_: &Event<Job>| meeting.join());
    let events = [0, 1, 2, 3].map(|n| bus.emit(Job { n }));
    events.iter().for_each(clean);
}

#[test]
fn bf_022_a_hundred_events_each_keep_their_own_result() {
    for events in [Events::BusSerial, Events::Parallel] {
        let bus = bus("Bf022", events, Handlers::Parallel);
        bus.on(|ask: &Event<Ask>| ask.n);
        let asked: Vec<_> = (0..100).map(|n| bus.emit(Ask { n })).collect();
        idle(&bus);
        for (n, event) in asked.iter().enumerate() {
            assert_eq!(event.results()[0].value, Some(n));
        }
    }
}

#[test]
fn bf_023_ten_threads_emit_at_once_and_nothing_is_swapped() {
    let bus = bus("Bf023", Events::Parallel, Handlers::BusSerial);
    let ran = Arc::new(AtomicUsize::new(0));
    bus.on({
        let ran = Arc::clone(&ran);
        move |ask: &Event<Ask>| {
            ran.fetch_add(1, Ordering::Relaxed);
            ask.n
        }
    });
    let threads: Vec<_> = (0..10)
        .map(|t| {
            let bus = bus.clone();
            thread::spawn(move || (0..20).map(|n| bus.emit(Ask { n: 20 * t + n })).collect::<Vec<_>>())
        })
        .collect();
    let events: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
    idle(&bus);
    let ids: HashSet<_> = events.iter().map(Event::id).collect();
    let values: BTreeSet<_> = events.iter().filter_map(|event| event.results()[0].value).collect();
    assert_eq!((ran.load(Ordering::Relaxed), ids.len(), values.len()), (200, 200, 200));
    for event in &events {
        assert_eq!((event.results()[0].status, event.results()[0].value), (ResultStatus::Completed, Some(event.n)));
    }
}
