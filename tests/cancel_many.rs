//! `Event::cancel` of more than the caller ends itself: from when it returns on nothing below starts, and all of it ends.

mod common;

use common::{Gate, PATIENCE, context, done, eventually, idle, limited, payload, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use threadbus::{
    AnyEvent, BusBuilder, Event, EventBus, EventConcurrency, EventOptions, HandlerConcurrency, HandlerError,
    HandlerFailure, Limit, OnFull, Payload, Retry, Runtime, Shutdown, WaitError,
};

payload!(Root { width: usize, depth: usize });
payload!(Leaf { n: usize });
payload!(Other);

/// Far more than a caller ends.
const MANY: usize = 3000;

/// A bus whose roots emit so many children on `to`: each with as many, `depth` times, the last of them leaves.
fn roots(to: &EventBus) -> EventBus {
    let bus = EventBus::builder("Roots").event_concurrency(EventConcurrency::Parallel).build().unwrap();
    let to = to.clone();
    bus.on(move |root: &Event<Root>| {
        for n in 0..root.width {
            if root.depth > 1 {
                root.bus().emit(Root { width: root.width, depth: root.depth - 1 });
            } else {
                to.emit(Leaf { n });
            }
        }
    });
    bus
}

/// Counts the starts of leaves, and those after a cancel has returned.
#[derive(Clone, Default)]
struct Starts {
    all: Arc<AtomicUsize>,
    late: Arc<AtomicUsize>,
    cancelled: Arc<AtomicBool>,
}

impl Starts {
    fn on(bus: &EventBus) -> Starts {
        let starts = Starts::default();
        let counts = starts.clone();
        bus.on(move |_: &Event<Leaf>| {
            counts.note();
        });
        starts
    }

    fn note(&self) {
        self.all.fetch_add(1, SeqCst);
        if self.cancelled.load(SeqCst) {
            self.late.fetch_add(1, SeqCst);
        }
    }

    /// Cancels, and starts to count.
    fn cancel(&self, event: &Event<Root>) {
        assert!(event.cancel());
        self.cancelled.store(true, SeqCst);
    }

    #[track_caller]
    fn none_is_late(&self, threads: usize) {
        // One that a thread had started before may come to its code after that, and is aborted.
        let late = self.late.load(SeqCst);
        assert!(late <= threads, "{late} leaves started after the cancel had returned");
    }
}

fn count_of(tree: &Event<Root>) -> usize {
    tree.descendants().len()
}

fn is_whole(tree: &Event<Root>, leaves: usize) -> bool {
    tree.descendants().iter().filter(|event| event.payload::<Leaf>().is_some()).count() == leaves
}

/// All of the tree has ended, and nothing of it ran that had not.
#[track_caller]
fn has_ended(tree: &Event<Root>) {
    done(tree);
    for event in tree.descendants() {
        assert!(event.is_completed(), "{event}");
    }
}

fn side_by_side(bus: BusBuilder) -> BusBuilder {
    bus.event_concurrency(EventConcurrency::Parallel).handler_concurrency(HandlerConcurrency::EventSerial)
}

fn queue(name: &str, build: impl FnOnce(BusBuilder) -> BusBuilder) -> EventBus {
    build(EventBus::builder(name).max_history(Some(0))).build().unwrap()
}

#[test]
fn what_is_queued_never_runs_and_what_is_not_below_does() {
    within(PATIENCE, || {
        let shapes = [(MANY, 1), (70, 2), (17, 3), (2, 12)];
        for (width, depth) in shapes {
            let bus = queue("Serial", |b| b);
            let starts = Starts::on(&bus);
            let others = Arc::new(AtomicUsize::new(0));
            let counts = others.clone();
            bus.on(move |_: &Event<Other>| {
                counts.fetch_add(1, SeqCst);
            });
            let emits = roots(&bus);
            bus.pause();
            let before = bus.emit(Other);
            let tree = emits.emit(Root { width, depth });
            let leaves = width.pow(depth as u32);
            eventually(|| bus.pending() == leaves + 1 && emits.is_idle());
            let after = bus.emit(Other);
            starts.cancel(&tree);
            bus.resume();
            done(&before);
            done(&after);
            has_ended(&tree);
            idle(&bus);
            assert_eq!((starts.all.load(SeqCst), others.load(SeqCst), bus.pending()), (0, 2, 0));
            let metrics = bus.metrics();
            assert_eq!((metrics.emitted, metrics.completed, metrics.cancelled), (leaves as u64 + 2, 2, leaves as u64));
            assert!(
                tree.descendants().iter().all(|leaf| {
                    leaf.payload::<Leaf>().is_none() || matches!(leaf.wait(), Err(WaitError::Cancelled))
                })
            );
            assert_eq!(bus.history_len(), 0);
        }
    });
}

/// While the bus is in full flow, whatever its events need.
#[test]
fn nothing_starts_from_then_on_while_the_bus_runs() {
    within(3 * PATIENCE, || {
        let kinds: [fn(BusBuilder) -> BusBuilder; 4] = [
            |b| b,
            |b| b.event_concurrency(EventConcurrency::Parallel),
            |b| b.event_concurrency(EventConcurrency::GlobalSerial),
            side_by_side,
        ];
        for kind in kinds {
            for round in 0..4 {
                let runtime = Runtime::builder().max_threads(8).build().unwrap();
                let bus = queue("Flows", |b| kind(b.runtime(&runtime)));
                let starts = Starts::on(&bus);
                let gate = Gate::new();
                let stands = gate.clone();
                bus.on(move |leaf: &Event<Leaf>| {
                    if leaf.n > MANY / 2 {
                        stands.wait();
                    }
                });
                let emits = roots(&bus);
                bus.pause();
                let tree = emits.emit(Root { width: MANY, depth: 1 });
                eventually(|| bus.pending() == MANY && emits.is_idle());
                bus.resume();
                eventually(|| starts.all.load(SeqCst) >= round * MANY / 7);
                starts.cancel(&tree);
                gate.open();
                has_ended(&tree);
                idle(&bus);
                starts.none_is_late(64);
                let (metrics, ran) = (bus.metrics(), starts.all.load(SeqCst) as u64);
                assert_eq!(metrics.emitted, MANY as u64);
                assert!(
                    metrics.completed <= ran && metrics.completed + metrics.cancelled == MANY as u64,
                    "{metrics:?}"
                );
            }
        }
    });
}

#[test]
fn the_second_handler_of_a_running_one_does_not_start() {
    within(PATIENCE, || {
        let runtime = Runtime::builder().max_threads(64).build().unwrap();
        let bus = queue("Two", |b| side_by_side(b.runtime(&runtime)));
        let (gate, inside, second) = (Gate::new(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (stands, counts, late) = (gate.clone(), inside.clone(), second.clone());
        bus.on(move |leaf: &Event<Leaf>| {
            counts.fetch_add(1, SeqCst);
            if leaf.n >= MANY - 20 {
                stands.wait();
            }
        });
        bus.on(move |leaf: &Event<Leaf>| {
            late.fetch_add(usize::from(leaf.n >= MANY - 20), SeqCst);
        });
        // The last ones stand in a handler, behind all others, which are queued on a bus that is paused.
        let paused = queue("Paused", |b| b.runtime(&runtime));
        paused.pause();
        let emits = EventBus::new("Emits");
        let (first, last) = (paused.clone(), bus.clone());
        emits.on(move |_: &Event<Root>| {
            (0..MANY - 20).for_each(|n| drop(first.emit(Leaf { n })));
            (MANY - 20..MANY).for_each(|n| drop(last.emit(Leaf { n })));
        });
        let tree = emits.emit(Root { width: MANY, depth: 1 });
        eventually(|| inside.load(SeqCst) == 20);
        assert!(tree.cancel());
        gate.open();
        has_ended(&tree);
        paused.resume();
        idle(&bus);
        idle(&paused);
        assert_eq!(second.load(SeqCst), 0);
    });
}

#[test]
fn on_manual_buses_too() {
    within(PATIENCE, || {
        for pumps in [true, false] {
            let bus = queue("Manual", BusBuilder::manual);
            let starts = Starts::on(&bus);
            let emits = roots(&bus);
            let tree = emits.emit(Root { width: MANY, depth: 1 });
            eventually(|| bus.pending() == MANY && emits.is_idle());
            starts.cancel(&tree);
            if pumps {
                bus.run_pending();
            }
            has_ended(&tree);
            bus.run_pending();
            assert_eq!((starts.all.load(SeqCst), bus.pending()), (0, 0));
            idle(&bus);
        }
    });
}

/// The handler that waits for the whole tree comes back when it has ended, and so does one that waits for a leaf.
#[test]
fn from_inside_a_handler_that_waits_for_it() {
    within(PATIENCE, || {
        let runtime = Runtime::builder().max_threads(2).hard_limit(2).build().unwrap();
        for manual in [false, true] {
            let bus = queue("Leaves", |b| if manual { b.manual() } else { b.runtime(&runtime) });
            let starts = Starts::on(&bus);
            bus.pause();
            let emits = roots(&bus);
            let inside = EventBus::builder("Inside").runtime(&runtime).build().unwrap();
            let counts = starts.clone();
            inside.on(move |_: &Event<Other>| {
                let tree = emits.emit_with(Root { width: MANY, depth: 1 }, EventOptions::new().detached());
                eventually(|| is_whole(&tree, MANY) && emits.is_idle());
                counts.cancel(&tree);
                let last = tree.children().pop().unwrap();
                assert!(matches!(last.wait(), Err(WaitError::Cancelled)));
                assert!(tree.wait().is_ok());
                assert!(tree.is_completed());
            });
            common::clean(&inside.emit(Other));
            assert_eq!(starts.all.load(SeqCst), 0);
            bus.resume();
        }
    });
}

#[test]
fn from_a_hook_and_from_a_drop() {
    struct Cancels(Option<Event<Root>>);
    impl Drop for Cancels {
        fn drop(&mut self) {
            assert!(self.0.take().is_some_and(|tree| tree.cancel()));
        }
    }
    struct Holds {
        _cancels: Cancels,
    }
    impl Payload for Holds {
        type Output = ();
    }
    within(PATIENCE, || {
        for drops in [true, false] {
            let bus = queue("Leaves", |b| b);
            let starts = Starts::on(&bus);
            bus.pause();
            let emits = roots(&bus);
            let tree = emits.emit(Root { width: MANY, depth: 1 });
            eventually(|| bus.pending() == MANY && emits.is_idle());
            let other = queue("Other", |b| b);
            if drops {
                drop(other.emit(Holds { _cancels: Cancels(Some(tree.clone())) }));
                idle(&other);
                drop(other);
            } else {
                let cancels = tree.clone();
                let started = Gate::new();
                let opens = started.clone();
                other.on(move |_: &Event<Other>| -> Result<(), WaitError> {
                    let cancels = cancels.clone();
                    context().on_cancel(move || assert!(cancels.cancel()));
                    opens.open();
                    context().sleep(PATIENCE)
                });
                let event = other.emit(Other);
                started.wait();
                event.cancel();
            }
            has_ended(&tree);
            bus.resume();
            idle(&bus);
            assert_eq!(starts.all.load(SeqCst), 0);
        }
    });
}

/// A tree that is being ended takes in what comes below it, and it does not run; what comes when it is complete does.
#[test]
fn what_is_emitted_below_it_meanwhile() {
    within(3 * PATIENCE, || {
        for round in 0..20 {
            let bus = queue("Leaves", |b| b);
            let starts = Starts::on(&bus);
            let emits = roots(&bus);
            bus.pause();
            let tree = emits.emit(Root { width: MANY, depth: 1 });
            eventually(|| bus.pending() == MANY && emits.is_idle());
            if round % 2 == 0 {
                bus.resume();
            }
            starts.cancel(&tree);
            let mut ran = 0;
            let below: Vec<_> = (0..200)
                .map(|n| {
                    let late =
                        bus.emit_with(Leaf { n }, EventOptions::new().parent(AsRef::<AnyEvent>::as_ref(&tree).clone()));
                    (late, tree.is_completed())
                })
                .collect();
            if round % 2 == 1 {
                bus.resume();
            }
            done(&tree);
            for (late, complete) in below {
                let waited = late.wait();
                ran += usize::from(waited.is_ok());
                assert!(complete || matches!(waited, Ok(_) | Err(WaitError::Cancelled)));
            }
            idle(&bus);
            // Those that were emitted when the tree was complete, or after the last look.
            assert!(starts.late.load(SeqCst) <= ran + 1);
            let late =
                bus.emit_with(Leaf { n: 0 }, EventOptions::new().parent(AsRef::<AnyEvent>::as_ref(&tree).clone()));
            assert!(late.wait().is_ok());
        }
    });
}

#[test]
fn forwarded_ones_end_on_all_their_buses() {
    within(PATIENCE, || {
        let (first, second) = (queue("First", |b| b), queue("Second", |b| b));
        let starts = Starts::on(&second);
        first.forward_all_to(&second);
        let emits = roots(&first);
        second.pause();
        let tree = emits.emit(Root { width: MANY, depth: 1 });
        eventually(|| second.pending() == MANY && emits.is_idle());
        idle(&first);
        starts.cancel(&tree);
        // One that comes to a third bus now does not run there.
        let third = queue("Third", |b| b);
        let late = Starts::on(&third);
        for leaf in tree.children().iter().rev().take(100) {
            third.forward(leaf).unwrap();
        }
        second.resume();
        has_ended(&tree);
        idle(&second);
        idle(&third);
        assert_eq!((starts.all.load(SeqCst), late.all.load(SeqCst)), (0, 0));
    });
}

#[test]
fn between_two_attempts_and_in_line_for_a_place() {
    within(3 * PATIENCE, || {
        for delayed in [true, false] {
            let bus = queue("Waits", side_by_side);
            let (starts, gate) = (Starts::default(), Gate::new());
            let (counts, stands) = (starts.clone(), gate.clone());
            let options = limited(&Limit::new(if delayed { 64 } else { 1 }));
            let options =
                if delayed { options.retry(Retry::attempts(9).delay(Duration::from_millis(300))) } else { options };
            bus.on_with(options, move |_: &Event<Leaf>| -> Result<(), HandlerError> {
                counts.note();
                if delayed {
                    return Err("again".into());
                }
                stands.wait();
                Ok(())
            });
            let emits = roots(&bus);
            let tree = emits.emit(Root { width: 1500, depth: 1 });
            eventually(|| is_whole(&tree, 1500) && emits.is_idle());
            eventually(|| if delayed { starts.all.load(SeqCst) >= 1500 } else { bus.metrics().waiting >= 1499 });
            starts.cancel(&tree);
            gate.open();
            has_ended(&tree);
            idle(&bus);
            thread::sleep(Duration::from_millis(if delayed { 400 } else { 0 }));
            starts.none_is_late(8);
            if !delayed {
                assert!(starts.all.load(SeqCst) <= 2);
            }
        }
    });
}

#[test]
fn beside_a_shutdown_and_the_last_handle() {
    within(3 * PATIENCE, || {
        for round in 0..12 {
            let runtime = Runtime::builder().build().unwrap();
            let manual = round % 2 == 1;
            let bus = queue("Ends", |b| if manual { b.runtime(&runtime).manual() } else { b.runtime(&runtime) });
            let starts = Starts::on(&bus);
            let emits = roots(&bus);
            bus.pause();
            let tree = emits.emit(Root { width: MANY, depth: 1 });
            eventually(|| bus.pending() == MANY && emits.is_idle());
            drop(emits);
            starts.cancel(&tree);
            match round / 2 % 3 {
                0 => drop(bus.shutdown(Shutdown::Now, PATIENCE)),
                1 if !manual => drop(bus.shutdown(Shutdown::Drain, PATIENCE)),
                _ => drop(bus),
            }
            has_ended(&tree);
            assert_eq!(starts.all.load(SeqCst), 0);
        }
    });
}

/// A full queue, a batch, hooks of completion, the history: all of them see the ends as they come.
#[test]
fn whoever_watches_sees_all_of_it_end() {
    within(PATIENCE, || {
        let bus = queue("Watched", |b| b.queue_capacity(10, OnFull::Reject));
        let starts = Starts::on(&bus);
        let emits = roots(&bus);
        bus.pause();
        let tree = emits.emit(Root { width: MANY, depth: 1 });
        eventually(|| bus.pending() == MANY && emits.is_idle());
        assert!(bus.try_emit(Other).is_err());
        let leaves = tree.children();
        let waiters: Vec<_> = [0, MANY / 2, MANY - 1]
            .map(|n| {
                let leaf = leaves[n].clone();
                thread::spawn(move || leaf.wait())
            })
            .into();
        starts.cancel(&tree);
        for waiter in waiters {
            assert!(matches!(waiter.join().unwrap(), Err(WaitError::Cancelled)));
        }
        has_ended(&tree);
        eventually(|| bus.pending() == 0);
        assert!(bus.try_emit(Other).is_ok());
        for leaf in leaves {
            let results = leaf.results();
            let failure = results.first().unwrap().error.clone().unwrap();
            assert!(matches!(&*failure, HandlerFailure::Cancelled { cause } if cause.event == tree.id()));
        }
        bus.resume();
        idle(&bus);
        assert_eq!((count_of(&tree), starts.all.load(SeqCst)), (MANY, 0));
    });
}
