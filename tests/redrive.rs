//! Redrives beyond the plain one (which is in `dead_letters.rs`): whose turn it is, who is left out, handlers that were registered anew, what
//! fails below, one letter, and the background.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, idle, payload, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread;
use threadbus::*;

payload!(Job { n: usize });
payload!(Top);
payload!(Middle);
payload!(Bottom);

fn bus() -> EventBus {
    EventBus::builder("Letters").dead_letters(100).build().unwrap()
}

fn numbers(letters: &[DeadLetter]) -> Vec<usize> {
    letters.iter().map(|letter| letter.event.payload::<Job>().unwrap().n).collect()
}

/// Fails until it is mended, and always for numbers below `hopeless`.
fn mendable(bus: &EventBus, hopeless: usize) -> (Arc<AtomicBool>, Log) {
    let (good, log) = (Arc::new(AtomicBool::new(false)), Log::new());
    let (is_good, ran) = (Arc::clone(&good), log.clone());
    bus.on_with(HandlerOptions::new().name("mendable"), move |job: &Event<Job>| {
        ran.push(job.n);
        if is_good.load(SeqCst) && job.n >= hopeless { Ok(()) } else { Err("x") }
    });
    (good, log)
}

#[test]
fn redrives_in_a_row_come_to_all_letters() {
    for max in [1, 3, 7] {
        let bus = bus();
        let (good, log) = mendable(&bus, 5);
        (0..10).for_each(|n| drop(bus.emit(Job { n })));
        idle(&bus);
        good.store(true, SeqCst);
        for _ in 0..10_usize.div_ceil(max) {
            bus.redrive(max);
        }
        assert_eq!(numbers(&bus.dead_letters()), [0, 1, 2, 3, 4], "by threes and by ones");
        assert_eq!(log.entries()[10..20], (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
        // A new failure stands behind those that were tried before it, not behind those that are tried after it.
        done(&bus.emit(Job { n: 2 }));
        idle(&bus);
        let before = log.len();
        bus.redrive(6);
        let mut ran: Vec<_> = log.entries()[before..].to_vec();
        ran.sort();
        assert_eq!(ran, ["0", "1", "2", "2", "3", "4"]);
    }
}

#[test]
fn one_call_runs_each_letter_once() {
    let bus = bus();
    let (_, log) = mendable(&bus, 0);
    (0..4).for_each(|n| drop(bus.emit(Job { n })));
    idle(&bus);
    let report = bus.redrive(usize::MAX);
    assert_eq!((report.succeeded, report.failed, log.len()), (0, 4, 8));
}

#[test]
fn permanent_failures_are_left_out_unless_they_are_asked_for() {
    let bus = bus();
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(2)), move |job: &Event<Job>| -> Result<(), HandlerError> {
        count.fetch_add(1, SeqCst);
        if job.n == 0 { Err(HandlerError::permanent("no such thing")) } else { Err("busy".into()) }
    });
    done(&bus.emit(Job { n: 0 }));
    done(&bus.emit(Job { n: 1 }));
    idle(&bus);
    let letters = bus.dead_letters();
    assert_eq!(letters.iter().map(|letter| letter.permanent).collect::<Vec<_>>(), [true, false]);
    assert_eq!(runs.load(SeqCst), 3);
    assert_eq!((bus.redrive(1).failed, runs.load(SeqCst)), (1, 5), "it takes no place of the others");
    assert_eq!((bus.redrive_where(9, |letter| letter.permanent).failed, runs.load(SeqCst)), (1, 6));
    assert_eq!((bus.redrive_letter(&letters[0]).failed, runs.load(SeqCst)), (1, 7));
    let attempts: Vec<_> = bus.dead_letters().iter().map(|letter| letter.attempts).collect();
    assert_eq!(attempts, [3, 4]);
}

#[test]
fn a_filter_picks_and_one_that_panics_picks_nothing() {
    let bus = bus();
    let (_, log) = mendable(&bus, 0);
    (0..6).for_each(|n| drop(bus.emit(Job { n })));
    idle(&bus);
    let odd = |letter: &DeadLetter| letter.event.payload::<Job>().unwrap().n % 2 == 1;
    assert_eq!(bus.redrive_where(2, odd).failed, 2);
    assert_eq!(log.entries()[6..], ["1", "3"]);
    assert_eq!(bus.redrive_where(9, |letter| odd(letter) || panic!("on purpose")).failed, 3);
    // It may look at the bus, since nothing is locked.
    assert_eq!(bus.redrive_where(9, |letter| bus.dead_letters().len() == 6 && letter.attempts == 1).failed, 3);
}

#[test]
fn a_handler_that_was_registered_anew_runs_if_there_is_exactly_one() {
    let bus = bus();
    let named = || HandlerOptions::new().name("upload");
    let old = bus.on_with(named(), |_: &Event<Job>| Err::<(), _>("old"));
    done(&bus.emit(Job { n: 1 }));
    idle(&bus);
    bus.off(&old);
    bus.on_with(HandlerOptions::new().name("other"), |_: &Event<Job>| {});
    assert_eq!(bus.redrive(9), RedriveReport::default(), "nobody of that name");
    let one = bus.on_with(named(), |_: &Event<Job>| {});
    let two = bus.on_with(named(), |_: &Event<Job>| Err::<(), _>("new"));
    assert_eq!(bus.redrive(9), RedriveReport::default(), "which of the two?");
    bus.off(&one);
    let letter = bus.dead_letters().remove(0);
    assert_eq!(bus.redrive(9).failed, 1);
    let letters = bus.dead_letters();
    assert_eq!((letters.len(), letters[0].attempts, letters[0].handler.id()), (1, 2, two.id()));
    assert_eq!(letters[0].error.to_string(), "new");
    bus.off(&two);
    bus.on_with(named(), |_: &Event<Job>| {});
    assert_eq!(bus.redrive_letter(&letter).succeeded, 1, "a copy from before names the same letter");
    assert!(bus.dead_letters().is_empty());
}

#[test]
fn one_of_another_type_is_not_the_same() {
    let bus = bus();
    let named = || HandlerOptions::new().name("all");
    let old = bus.on_with(named(), |_: &Event<Job>| Err::<(), _>("x"));
    done(&bus.emit(Job { n: 1 }));
    bus.off(&old);
    bus.on_with(named(), |_: &Event<Top>| {});
    bus.on_any(|_: &AnyEvent| {});
    assert_eq!(bus.redrive(9), RedriveReport::default());
    assert_eq!(bus.dead_letters().len(), 1);
}

/// Each waits for the next, and fails with it; the last one by itself, until it is mended.
fn chain(buses: [&EventBus; 3]) -> Arc<AtomicBool> {
    let good = Arc::new(AtomicBool::new(false));
    let is_good = Arc::clone(&good);
    let (middle, bottom) = (buses[1].downgrade(), buses[2].downgrade());
    buses[0].on(move |_: &Event<Top>| middle.upgrade().map_or(Ok(()), |bus| bus.emit(Middle).result()));
    buses[1].on(move |_: &Event<Middle>| bottom.upgrade().map_or(Ok(()), |bus| bus.emit(Bottom).result()));
    buses[2].on(move |_: &Event<Bottom>| if is_good.load(SeqCst) { Ok(()) } else { Err("down") });
    good
}

#[test]
fn a_chain_that_fails_again_leaves_no_new_letters() {
    within(PATIENCE, || {
        let (one, two, three) = (bus(), bus(), bus());
        for buses in [[&one; 3], [&one, &two, &three], [&two, &three, &three]] {
            let letters = || [&one, &two, &three].map(|bus| bus.dead_letters().len()).iter().sum::<usize>();
            let good = chain(buses);
            done(&buses[0].emit(Top));
            buses.iter().for_each(|bus| idle(bus));
            assert_eq!(letters(), 3);
            for _ in 0..4 {
                for bus in buses {
                    bus.redrive(100);
                }
                buses.iter().for_each(|bus| idle(bus));
                assert_eq!(letters(), 3);
            }
            good.store(true, SeqCst);
            let mended: usize = [&one, &two, &three].iter().map(|bus| bus.redrive(100).succeeded).sum();
            assert_eq!((mended, letters()), (3, 0));
            for bus in buses {
                bus.off_all::<Top>();
                bus.off_all::<Middle>();
                bus.off_all::<Bottom>();
            }
        }
    });
}

#[test]
fn what_fails_below_a_redrive_that_succeeds_is_a_letter() {
    for waits in [true, false] {
        let bus = bus();
        let good = Arc::new(AtomicBool::new(false));
        let is_good = Arc::clone(&good);
        bus.on(move |top: &Event<Top>| {
            let child = top.bus().emit(Bottom);
            if waits {
                let _ = child.wait();
            }
            if is_good.load(SeqCst) { Ok(()) } else { Err("x") }
        });
        bus.on(|_: &Event<Bottom>| Err::<(), _>("down"));
        done(&bus.emit(Top));
        idle(&bus);
        assert_eq!(bus.dead_letters().len(), 2);
        let top = |letter: &DeadLetter| letter.event.event_type().ends_with("Top");
        assert_eq!(bus.redrive_where(9, top).failed, 1);
        idle(&bus);
        assert_eq!(bus.dead_letters().len(), 2, "the child's own failure is what failed with it before");
        good.store(true, SeqCst);
        assert_eq!(bus.redrive_where(9, top).succeeded, 1);
        idle(&bus);
        let left = bus.dead_letters();
        assert_eq!(left.len(), 2, "that of the first time, and that of this one");
        assert!(!left.iter().any(top));
    }
}

#[test]
fn a_late_failure_below_a_redrive_in_vain_leaves_no_letter_either() {
    within(PATIENCE, || {
        let bus = EventBus::builder("Late")
            .dead_letters(100)
            .event_concurrency(EventConcurrency::Parallel)
            .handler_concurrency(HandlerConcurrency::Parallel)
            .build()
            .unwrap();
        let (gate, at_it) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
        let (closed, count) = (gate.clone(), Arc::clone(&at_it));
        bus.on(|top: &Event<Top>| {
            top.bus().emit(Bottom);
            Err::<(), _>("x")
        });
        bus.on(move |_: &Event<Bottom>| {
            count.fetch_add(1, SeqCst);
            closed.wait();
            Err::<(), _>("down")
        });
        bus.emit(Top);
        eventually(|| bus.dead_letters().len() == 1);
        assert_eq!(bus.redrive(9).failed, 1);
        eventually(|| at_it.load(SeqCst) == 2);
        gate.open();
        idle(&bus);
        // The first child's: it was emitted before anything was redriven.
        let left: Vec<_> = bus.dead_letters().iter().map(|letter| letter.event.event_type().to_owned()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    });
}

#[test]
fn one_letter_can_be_removed_once() {
    let bus = bus();
    mendable(&bus, 0);
    (0..3).for_each(|n| drop(bus.emit(Job { n })));
    idle(&bus);
    let letters = bus.dead_letters();
    assert!(bus.remove_dead_letter(&letters[1]) && !bus.remove_dead_letter(&letters[1]));
    assert_eq!(bus.redrive_letter(&letters[1]), RedriveReport::default());
    assert_eq!(numbers(&bus.dead_letters()), [0, 2]);
    assert_eq!((bus.redrive(9).failed, bus.clear_dead_letters()), (2, 2));
}

#[test]
fn a_letter_that_is_removed_while_it_is_redriven_comes_again_if_it_fails() {
    within(PATIENCE, || {
        let bus = bus();
        let (gate, at_it, first) = (Gate::new(), Gate::new(), AtomicBool::new(true));
        let (closed, here, _open) = (gate.clone(), at_it.clone(), gate.opener());
        bus.on(move |_: &Event<Job>| {
            if !first.swap(false, SeqCst) {
                here.open();
                closed.wait();
            }
            Err::<(), _>("x")
        });
        done(&bus.emit(Job { n: 0 }));
        idle(&bus);
        let letter = bus.dead_letters().remove(0);
        thread::scope(|scope| {
            let redrive = scope.spawn(|| bus.redrive_letter(&letter));
            at_it.wait();
            assert_eq!(bus.redrive_letter(&letter), RedriveReport::default(), "it is at it");
            assert!(bus.remove_dead_letter(&letter));
            gate.open();
            assert_eq!(redrive.join().unwrap().failed, 1);
        });
        let letters = bus.dead_letters();
        assert_eq!((letters.len(), letters[0].attempts), (1, 1));
    });
}

#[test]
fn the_background_does_not_hold_its_caller() {
    within(PATIENCE, || {
        let bus = bus();
        let (gate, first) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
        let (closed, runs) = (gate.clone(), Arc::clone(&first));
        bus.on(move |job: &Event<Job>| {
            if runs.fetch_add(1, SeqCst) < 5 {
                return Err("x");
            }
            closed.wait();
            if job.n == 3 { Err("still") } else { Ok(()) }
        });
        (0..5).for_each(|n| drop(bus.emit(Job { n })));
        idle(&bus);
        let (done, report) = channel();
        bus.redrive_in_background(100, move |report| done.send(report).unwrap());
        eventually(|| first.load(SeqCst) == 6);
        assert!(report.try_recv().is_err());
        gate.open();
        let report = report.recv_timeout(PATIENCE).unwrap();
        assert_eq!((report.succeeded, report.failed), (4, 1));
        assert_eq!(numbers(&bus.dead_letters()), [3]);
    });
}

#[test]
fn the_background_starts_anywhere_and_survives_what_follows() {
    within(PATIENCE, || {
        let bus = bus();
        let (good, _) = mendable(&bus, 0);
        done(&bus.emit(Job { n: 1 }));
        idle(&bus);
        good.store(true, SeqCst);
        // In a callback, which must not run handlers itself.
        let (done, report) = channel();
        bus.redrive_where(1, |letter| {
            let done = done.clone();
            assert_eq!(letter.event.bus().redrive(1), RedriveReport::default());
            letter.event.bus().redrive_in_background(1, move |report| {
                done.send(report).unwrap();
                panic!("on purpose");
            });
            false
        });
        assert_eq!(report.recv_timeout(PATIENCE).unwrap().succeeded, 1);
        let (done, none) = channel();
        bus.redrive_in_background(0, move |report| done.send(report).unwrap());
        assert_eq!(none.recv_timeout(PATIENCE).unwrap(), RedriveReport::default());
    });
}

#[test]
fn in_the_background_a_manual_bus_runs_on_its_pump() {
    within(PATIENCE, || {
        let bus = EventBus::builder("Window").manual().dead_letters(10).build().unwrap();
        let (here, runs) = (thread::current().id(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&runs);
        bus.on(move |_: &Event<Job>| {
            assert_eq!(thread::current().id(), here);
            if count.fetch_add(1, SeqCst) == 0 { Err("x") } else { Ok(()) }
        });
        bus.emit(Job { n: 1 });
        bus.run_pending();
        let (done, report) = channel();
        bus.redrive_in_background(10, move |report| done.send(report).unwrap());
        eventually(|| {
            bus.run_pending();
            bus.dead_letters().is_empty()
        });
        assert_eq!(report.recv_timeout(PATIENCE).unwrap().succeeded, 1);
    });
}

#[test]
fn the_background_ends_with_the_bus() {
    within(PATIENCE, || {
        let bus = bus();
        mendable(&bus, 0);
        (0..50).for_each(|n| drop(bus.emit(Job { n })));
        idle(&bus);
        let (done, report) = channel();
        let told = done.clone();
        bus.redrive_in_background(usize::MAX, move |report| told.send(report).unwrap());
        bus.shutdown(Shutdown::Now, PATIENCE);
        assert!(report.recv_timeout(PATIENCE).unwrap().failed <= 50);
        bus.redrive_in_background(usize::MAX, move |report| done.send(report).unwrap());
        assert_eq!(report.recv_timeout(PATIENCE).unwrap(), RedriveReport::default());
    });
}
