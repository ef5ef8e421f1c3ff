//! Stacks of all sizes: what would run on top of one that is nearly used up goes elsewhere or is answered, and the process goes on. A stack
//! that overflows ends the whole test.

#[macro_use]
mod common;

use common::{Gate, PATIENCE, done, eventually, lock, within};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use threadbus::*;

payload!(Level { left: u32, how: How } => u32);
payload!(Plain { n: u32 } => u32);

const KIB: usize = 1 << 10;
const SIZES: [usize; 9] =
    [64 * KIB, 96 * KIB, 128 * KIB, 192 * KIB, 256 * KIB, 512 * KIB, 1024 * KIB, 2048 * KIB, 8192 * KIB];

/// How a handler gets to the next level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// A child on the same bus.
    Wait,
    /// A child on the other bus.
    Across,
    /// `emit_now`, which runs it on the calling stack.
    Now,
    /// By way of a queue that the handler runs itself.
    Pump,
}

const ALL: [How; 4] = [How::Wait, How::Across, How::Now, How::Pump];

/// What the levels met.
#[derive(Clone, Debug, Default)]
struct Seen {
    levels: Arc<AtomicU32>,
    errors: Arc<Mutex<Vec<WaitError>>>,
}

impl Seen {
    fn levels(&self) -> u32 {
        self.levels.load(Ordering::SeqCst)
    }

    /// All levels ran, or a wait said that there is no stack for the next. Whatever else a wait says is wrong.
    #[track_caller]
    fn check(&self, levels: u32, context: &str) {
        let errors = lock(&self.errors).clone();
        let wrong = errors.iter().find(|error| !matches!(error, WaitError::NoThread(_)));
        assert!(wrong.is_none(), "{context}: {wrong:?}");
        assert!(self.levels() == levels || !errors.is_empty(), "{context}: {} levels, and no error", self.levels());
        assert!(self.levels() > 0, "{context}: nothing ran");
    }
}

/// Every level waits for the next one. The last one panics, with as little stack left as there may be.
fn levels(bus: &EventBus, other: &EventBus) -> Seen {
    let seen = Seen::default();
    for (bus, other) in [(bus, other), (other, bus)] {
        let (seen, other) = (seen.clone(), other.downgrade());
        bus.on(move |level: &Event<Level>| -> u32 {
            seen.levels.fetch_add(1, Ordering::SeqCst);
            if level.left == 0 {
                panic!("on the last level, with {:?} bytes left", stacker::remaining_stack());
            }
            let next = Level { left: level.left - 1, how: level.how };
            let bus = level.bus();
            let child = match level.how {
                How::Wait => bus.emit(next),
                How::Across => other.upgrade().expect("the test keeps it").emit(next),
                How::Now => bus.emit_now(next),
                How::Pump => {
                    let child = bus.emit_with(next, EventOptions::new().concurrency(EventConcurrency::Parallel));
                    bus.run_pending();
                    child
                }
            };
            if let Err(error) = child.wait() {
                let refused = {
                    let mut errors = lock(&seen.errors);
                    errors.push(error);
                    errors.len()
                };
                if refused == 1 {
                    // As little stack is left here as there ever is: enough for a panic that somebody catches.
                    let caught = std::panic::catch_unwind(|| panic!("after {} levels", seen.levels()));
                    assert!(caught.is_err());
                }
            }
            level.left
        });
    }
    seen
}

/// Runs on a thread with a stack of that size.
fn on<R: Send + 'static>(size: usize, body: impl FnOnce() -> R + Send + 'static) -> R {
    // Names for hundreds of frames take seconds; the frames themselves are walked.
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let _ = std::backtrace::Backtrace::force_capture();
            eprintln!("{info}");
        }));
    });
    within(Duration::from_secs(60), move || {
        std::thread::Builder::new().stack_size(size).spawn(body).expect("a thread").join().expect("no panic")
    })
}

/// Runs `body` with no more than `left` bytes of stack below it.
fn with_left<R>(left: usize, body: impl FnOnce() -> R) -> R {
    fn down(left: usize, body: &mut dyn FnMut()) {
        let frame = std::hint::black_box([0u8; 512]);
        if stacker::remaining_stack().expect("the system says") <= left {
            body()
        } else {
            down(left, body)
        }
        std::hint::black_box(frame);
    }
    let (mut body, mut result) = (Some(body), None);
    down(left, &mut || result = body.take().map(|body| body()));
    result.expect("it ran")
}

fn manual(name: &str) -> EventBus {
    EventBus::builder(name).manual().build().expect("a manual bus")
}

/// More levels than any of the stacks has room for, but the largest.
const MANY: u32 = 120;

#[test]
fn a_pump_thread_of_any_size_says_when_its_stack_is_used_up() {
    for (size, how) in SIZES.iter().flat_map(|size| ALL.map(|how| (*size, how))) {
        let seen = on(size, move || {
            let (bus, other) = (manual("ui"), manual("other"));
            let seen = levels(&bus, &other);
            let top = bus.emit(Level { left: MANY, how });
            while !top.is_completed() {
                assert!(bus.run_pending() + other.run_pending() > 0, "{size} {how:?}: {top:?} is left");
            }
            seen
        });
        // What a level could not wait for ran afterwards, from the top of the stack.
        assert_eq!(seen.levels(), MANY + 1, "{size} {how:?}");
        seen.check(MANY + 1, &format!("{size} {how:?}"));
        let refused = !lock(&seen.errors).is_empty();
        assert!(refused || size >= 512 * KIB, "{size} {how:?}: {MANY} levels on one stack");
    }
}

/// The other threads have stacks of their own, so it comes to its end.
#[test]
fn emit_now_on_a_thread_of_any_size_goes_on_elsewhere() {
    for (size, how) in SIZES.iter().flat_map(|size| ALL.map(|how| (*size, how))).filter(|(_, how)| *how != How::Pump) {
        let seen = on(size, move || {
            let (bus, other) = (EventBus::new("one"), EventBus::new("other"));
            let seen = levels(&bus, &other);
            done(&bus.emit_now(Level { left: MANY, how }));
            seen
        });
        assert_eq!((seen.levels(), lock(&seen.errors).len()), (MANY + 1, 0), "{size} {how:?}");
    }
}

/// As many levels as there are, on one thread: some of the waits are told that there is no thread for the next level, and all end.
#[test]
fn pool_threads_of_any_size_come_to_an_end() {
    for (size, how) in SIZES.iter().flat_map(|size| ALL.map(|how| (*size, how))).filter(|(_, how)| *how != How::Pump) {
        let runtime = Runtime::builder().stack_size(size).max_threads(1).hard_limit(1).build().expect("a runtime");
        let [bus, other] =
            ["one", "other"].map(|name| EventBus::builder(name).runtime(&runtime).build().expect("a bus"));
        let seen = levels(&bus, &other);
        let top = done(&bus.emit(Level { left: MANY, how }));
        assert!(top.descendants().iter().all(AnyEvent::is_completed));
        seen.check(MANY + 1, &format!("{size} {how:?}"));
        within(PATIENCE, move || runtime.shutdown(Shutdown::Drain, PATIENCE));
    }
}

/// A thread that uses most of its stack before it first calls this crate.
#[test]
fn what_is_used_before_the_first_call_counts() {
    for (left, how) in [70, 100, 200, 600].iter().flat_map(|left| ALL.map(|how| (left * KIB, how))) {
        let seen = on(1024 * KIB, move || {
            with_left(left, || {
                let (bus, other) = (manual("ui"), manual("other"));
                let seen = levels(&bus, &other);
                let top = bus.emit(Level { left: MANY, how });
                while !top.is_completed() {
                    assert!(bus.run_pending() + other.run_pending() > 0, "{left} {how:?}: {top:?} is left");
                }
                seen
            })
        });
        assert!(left > 200 * KIB || !lock(&seen.errors).is_empty(), "{left} {how:?}");
        seen.check(MANY + 1, &format!("{left} {how:?}"));
    }
}

/// With next to nothing left, nothing is run, everything answers, and higher up on the same stack all is as usual.
#[test]
fn a_used_up_stack_runs_nothing_and_hangs_nowhere() {
    on(512 * KIB, || {
        let bus = EventBus::builder("ui").manual().queue_capacity(2, OnFull::Block).build().expect("a manual bus");
        let threaded = EventBus::new("threads");
        let by_hand = bus.clone();
        for bus in [&bus, &threaded] {
            bus.on(|plain: &Event<Plain>| plain.n);
        }
        threaded.on(move |level: &Event<Level>| -> u32 {
            by_hand.emit(Plain { n: level.left }).result().expect("the pump thread comes")
        });
        // All threads of the other bus are there before there is no stack for anything.
        assert_eq!(threaded.emit(Plain { n: 1 }).result().expect("a value"), 1);
        assert_eq!(bus.emit_now(Plain { n: 1 }).result().expect("a value"), 1);
        let left = with_left(30 * KIB, || {
            let queued = bus.emit(Plain { n: 2 });
            assert!(matches!(queued.wait(), Err(WaitError::NoThread(1))));
            assert!(matches!(queued.wait_timeout(PATIENCE), Err(WaitError::NoThread(1))));
            assert!(matches!(queued.wait_in_order(), Err(WaitError::NoThread(1))));
            assert!(matches!(bus.wait_until_idle(), Err(WaitError::NoThread(1))));
            assert_eq!((bus.run_pending(), bus.run_pending_for(PATIENCE)), (0, 0));
            let now = bus.emit_now(Plain { n: 3 });
            assert!(!now.is_completed());
            let full = bus.emit(Plain { n: 5 });
            assert!(matches!(full.wait(), Err(WaitError::Rejected(EmitError::QueueFull { .. }))), "{full:?}");
            // What has other threads is not touched by this one's need.
            assert_eq!(threaded.emit(Plain { n: 6 }).result().expect("a value"), 6);
            assert_eq!(threaded.emit_now(Plain { n: 7 }).result().expect("a value"), 7);
            // A handler over there waits for what only this thread could run.
            let over_there = threaded.emit(Level { left: 8, how: How::Wait });
            assert!(matches!(over_there.wait_timeout(PATIENCE), Err(WaitError::NoThread(1))));
            (queued, now, over_there)
        });
        let (queued, now, over_there) = left;
        assert!(bus.run_pending() >= 1);
        assert_eq!(over_there.result().expect("a value"), 8);
        assert_eq!([queued, now].map(|event| event.result().expect("a value")), [2, 3]);
        assert!(bus.wait_until_idle().is_ok());
    });
}

/// Threads attached to a handler, with stacks of their own.
#[test]
fn attached_threads_of_any_size_wait_for_what_they_emit() {
    for size in SIZES {
        let (bus, other) = (EventBus::new("one"), EventBus::new("other"));
        let seen = levels(&bus, &other);
        let inner = seen.clone();
        bus.on(move |plain: &Event<Plain>| -> u32 {
            let context = HandlerContext::current().expect("a handler");
            let (bus, seen) = (plain.bus(), inner.clone());
            on(size, move || {
                context.attach(|| {
                    for how in [How::Wait] {
                        if let Err(error) = bus.emit(Level { left: 60, how }).wait() {
                            lock(&seen.errors).push(error);
                        }
                    }
                });
            });
            1
        });
        assert_eq!(done(&bus.emit(Plain { n: 0 })).result().expect("a value"), 1);
        // What may not run on top may not run elsewhere either, since the handler's own thread keeps the turn.
        seen.check(61, &format!("{size}"));
    }
}

#[test]
fn a_pump_thread_serves_whoever_waits_for_it_for_as_long_as_it_has_stack() {
    for size in [64 * KIB, 128 * KIB, 256 * KIB, 1024 * KIB] {
        // Each level is on the manual bus and waits for one on the threaded bus, which waits for the next one on the manual bus.
        let seen = on(size, || {
            let (bus, threaded) = (manual("ui"), EventBus::builder("threads").build().expect("a bus"));
            let seen = levels(&bus, &threaded);
            let top = bus.emit(Level { left: 100, how: How::Across });
            while !top.is_completed() {
                bus.run_pending();
                let _ = top.wait_timeout(Duration::from_millis(1));
            }
            seen
        });
        assert_eq!(seen.levels(), 101, "{size}");
        seen.check(101, &format!("{size}"));
    }
}

/// The user's word goes before what the system says, for better or worse.
#[test]
fn what_the_user_says_of_a_stack_counts() {
    let depth = |assumed: Option<usize>| {
        let seen = on(2048 * KIB, move || {
            if let Some(bytes) = assumed {
                assume_stack(bytes);
            }
            let (bus, other) = (manual("ui"), manual("other"));
            let seen = levels(&bus, &other);
            bus.emit(Level { left: 60, how: How::Wait });
            bus.run_pending();
            seen
        });
        let refused = lock(&seen.errors).len();
        seen.check(61, &format!("{assumed:?}"));
        refused
    };
    assert_eq!(depth(None), 0);
    let (few, many) = (depth(Some(300 * KIB)), depth(Some(100 * KIB)));
    assert!(many > few, "{many} refusals with 100 KiB, {few} with 300 KiB");
    assert_eq!(depth(Some(2000 * KIB)), 0);
    // What nobody could have: sums do not overflow.
    assert_eq!(depth(Some(usize::MAX)), 0);
    let nothing = on(2048 * KIB, || {
        assume_stack(0);
        let bus = manual("ui");
        bus.on(|plain: &Event<Plain>| plain.n);
        let plain = bus.emit(Plain { n: 1 });
        (bus.run_pending(), plain.wait().map(drop), {
            assume_stack(1024 * KIB);
            bus.run_pending()
        })
    });
    assert_eq!(nothing, (0, Err(WaitError::NoThread(1)), 1));
}

/// A handler that goes on on a grown stack, somewhere else in memory: what is left there counts, not what the thread was made with.
#[test]
fn a_grown_stack_counts_as_what_it_is() {
    for (size, grown) in [(128 * KIB, 2048 * KIB), (2048 * KIB, 256 * KIB), (64 * KIB, 512 * KIB)] {
        let refused = on(size, move || {
            let (bus, other) = (manual("ui"), manual("other"));
            let seen = levels(&bus, &other);
            stacker::grow(grown, || {
                bus.emit(Level { left: 100, how: How::Wait });
                bus.run_pending();
            });
            seen.check(101, &format!("{size} {grown}"));
            let grown_refused = lock(&seen.errors).len();
            // And back on its own stack.
            bus.emit(Level { left: 100, how: How::Wait });
            bus.run_pending();
            seen.check(202, &format!("{size} {grown}"));
            (grown_refused, lock(&seen.errors).len() - grown_refused)
        });
        match (size > grown, refused) {
            (true, (there, here)) => assert!(there > 0 && here == 0, "{size} {grown}: {refused:?}"),
            (false, (there, here)) => assert!(there < here, "{size} {grown}: {refused:?}"),
        }
    }
}

/// Chains of children that nobody waits for end one after the other, and go without recursion.
#[test]
fn a_long_chain_of_children_goes_on_a_small_stack() {
    for order in [false, true] {
        let bus = EventBus::builder("chain").max_history(if order { None } else { Some(10) }).build().expect("a bus");
        let ended = Gate::new();
        let end = ended.clone();
        bus.on(move |level: &Event<Level>| -> u32 {
            match level.left {
                0 => end.open(),
                left => drop(level.bus().emit(Level { left: left - 1, how: level.how })),
            }
            0
        });
        let top = bus.emit(Level { left: 20_000, how: How::Wait });
        assert!(ended.wait_for(Duration::from_secs(60)));
        eventually(|| top.is_completed());
        on(64 * KIB, move || if order { drop((top, bus)) } else { drop((bus, top)) });
    }
}
