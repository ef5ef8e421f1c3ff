//! Conformance, streams.md: subscriptions and scopes.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, idle, linger, lock, payload, warnings_naming, within};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use threadbus::{
    AnyEvent, EmitError, Event, EventBus, HandlerError, OnFull, OnLag, Payload, RecvError, Runtime, Shutdown,
    Subscription, WaitError, scope,
};

payload!(OrderCreated { id: u32, item: &'static str });
payload!(A { n: u32 });
payload!(B { n: u32 });
payload!(Sequence { producer: usize, n: usize });

const SOON: Duration = Duration::from_millis(50);

/// A payload that counts its drops.
struct Counted(Arc<AtomicUsize>);
impl Payload for Counted {
    type Output = ();
}
impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn numbers(subscription: &mut Subscription<Event<A>>) -> Vec<u32> {
    subscription.try_iter().map(|a| a.n).collect()
}

fn emit_all(bus: &EventBus, numbers: impl IntoIterator<Item = u32>) {
    for n in numbers {
        bus.emit(A { n });
    }
}

#[test]
fn hw_01_two_orders_arrive_in_order_and_intact() {
    let bus = EventBus::new("Orders");
    let mut orders = bus.subscribe::<OrderCreated>();
    bus.emit(OrderCreated { id: 1, item: "pen" });
    bus.emit(OrderCreated { id: 2, item: "ink" });
    let read = [orders.recv().unwrap(), orders.recv().unwrap()].map(|order| (order.id, order.item));
    assert_eq!(read, [(1, "pen"), (2, "ink")]);
}

#[test]
fn hw_02_everybody_gets_the_same_event() {
    let bus = EventBus::new("Broadcast");
    let (mut first, mut second) = (bus.subscribe::<A>(), bus.subscribe::<A>());
    bus.emit(A { n: 1 });
    let (a, b) = (first.recv().unwrap(), second.recv().unwrap());
    assert!(std::ptr::eq(a.payload(), b.payload()));
}

#[test]
fn hw_03_each_gets_its_type() {
    let bus = EventBus::new("Types");
    let (mut a, mut b) = (bus.subscribe::<A>(), bus.subscribe::<B>());
    for n in 1..=2 {
        bus.emit(A { n });
        bus.emit(B { n });
    }
    assert_eq!(numbers(&mut a), [1, 2]);
    assert_eq!(b.try_iter().map(|b| b.n).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn hw_05_without_anybody_everything_is_dropped() {
    let bus = EventBus::builder("Nobody").max_history(Some(0)).build().unwrap();
    let dropped = Arc::new(AtomicUsize::new(0));
    for _ in 0..100_000 {
        bus.emit(Counted(Arc::clone(&dropped)));
    }
    idle(&bus);
    eventually(|| dropped.load(Ordering::SeqCst) == 100_000);
    assert_eq!(bus.pending(), 0);
}

#[test]
fn hw_06_one_bus_after_the_other() {
    let a = EventBus::new("First");
    let mut of_a = a.subscribe::<A>();
    a.emit(A { n: 1 });
    drop(a);
    let b = EventBus::new("Second");
    let mut of_b = b.subscribe::<A>();
    b.emit(A { n: 2 });
    assert_eq!(of_b.recv().unwrap().n, 2);
    assert_eq!(of_a.by_ref().map(|a| a.n).collect::<Vec<_>>(), [1]);
    assert_eq!(of_b.try_recv().err(), Some(RecvError::Empty));
}

#[test]
fn hw_07_two_buses_side_by_side() {
    let (a, b) = (EventBus::new("Left"), EventBus::new("Right"));
    let (mut of_a, mut of_b) = (a.subscribe::<A>(), b.subscribe::<A>());
    thread::scope(|scope| {
        scope.spawn(|| emit_all(&a, 0..100));
        scope.spawn(|| emit_all(&b, 0..50));
    });
    assert_eq!((of_a.try_iter().count(), of_b.try_iter().count()), (100, 50));
}

#[test]
fn hw_08_scopes_nest() {
    let (a, b) = (EventBus::new("Outer"), EventBus::new("Inner"));
    let (mut of_a, mut of_b) = (a.subscribe::<A>(), b.subscribe::<A>());
    scope::enter(&a, || {
        scope::emit(A { n: 1 });
        scope::enter(&b, || scope::emit(A { n: 2 }));
        scope::emit(A { n: 3 });
    });
    assert_eq!((numbers(&mut of_a), numbers(&mut of_b)), (vec![1, 3], vec![2]));
}

#[test]
fn hw_09_no_scope_no_bus_and_in_a_handler_its_own() {
    assert!(scope::current().is_none());
    assert!(scope::subscribe::<A>().is_none());
    assert!(matches!(scope::emit(A { n: 1 }).wait(), Err(WaitError::Rejected(EmitError::Closed { .. }))));
    let (bus, other) = (EventBus::new("Handles"), EventBus::new("Entered"));
    let log = Log::new();
    let (logs, enters) = (log.clone(), other.downgrade());
    let current = || scope::current().map_or_else(String::new, |bus| bus.name().to_owned());
    bus.on(move |_: &Event<A>| {
        logs.push(current());
        let entered = enters.upgrade().unwrap();
        scope::enter(&entered, || {
            logs.push(current());
            // What runs on this stack meanwhile has its own bus.
            scope::emit(B { n: 1 }).wait().unwrap();
            logs.push(current());
        });
        logs.push(current());
    });
    let logs = log.clone();
    other.on(move |_: &Event<B>| logs.push(format_args!("b on {}", current())));
    // The emitter's scope is not the handler's.
    done(&scope::enter(&other, || bus.emit(A { n: 1 })));
    assert_eq!(log.entries(), ["Handles", "Entered", "b on Entered", "Entered", "Handles"]);
}

#[test]
fn hw_09b_a_panic_leaves_its_scope() {
    let bus = EventBus::new("Panics");
    let body = std::panic::AssertUnwindSafe(|| scope::enter(&bus, || panic!("inside")));
    assert!(std::panic::catch_unwind(body).is_err());
    assert!(scope::current().is_none());
}

#[test]
fn hw_09c_spawned_threads_inherit_the_bus_and_do_not_keep_it() {
    let bus = EventBus::new("Inherited");
    let (began, dropped) = (Gate::new(), Gate::new());
    let (begins, waits) = (began.clone(), dropped.clone());
    let thread = scope::enter(&bus, || {
        scope::spawn(move || {
            let before = scope::current().map(|bus| bus.name().to_owned());
            let inner = scope::spawn(|| scope::current().is_some()).join().unwrap();
            begins.open();
            waits.wait();
            (before, inner, scope::current().is_none())
        })
    });
    began.wait();
    drop(bus);
    dropped.open();
    assert_eq!(thread.join().unwrap(), (Some("Inherited".to_owned()), true, true));
}

#[test]
fn hw_10_closed_subscriptions_let_their_readers_go() {
    let bus = EventBus::new("Cancelled");
    let subscriptions: Vec<_> = (0..5).map(|_| bus.subscribe::<A>()).collect();
    let closers: Vec<_> = subscriptions.iter().map(Subscription::closer).collect();
    let readers: Vec<_> =
        subscriptions.into_iter().map(|mut subscription| thread::spawn(move || subscription.recv().err())).collect();
    closers.iter().for_each(threadbus::SubscriptionCloser::close);
    let answers =
        within(PATIENCE, move || readers.into_iter().map(|reader| reader.join().unwrap()).collect::<Vec<_>>());
    assert_eq!(answers, [Some(RecvError::Closed); 5]);
    done(&bus.emit(A { n: 1 }));
}

#[test]
fn hw_10b_what_is_there_can_be_read_after_closing() {
    let bus = EventBus::new("ClosedLate");
    let mut subscription = bus.subscribe::<A>();
    emit_all(&bus, 1..=2);
    let closer = subscription.closer();
    closer.close();
    closer.close();
    emit_all(&bus, 3..=4);
    assert_eq!(subscription.by_ref().map(|a| a.n).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(subscription.recv_timeout(PATIENCE).err(), Some(RecvError::Closed));
    assert_eq!(subscription.try_recv().err(), Some(RecvError::Closed));
}

#[test]
fn hw_13_a_late_joiner_sees_what_comes_later() {
    let bus = EventBus::new("Late");
    let mut early = bus.subscribe::<A>();
    emit_all(&bus, 1..=2);
    let mut late = bus.subscribe::<A>();
    emit_all(&bus, 3..=4);
    assert_eq!((numbers(&mut early), numbers(&mut late)), (vec![1, 2, 3, 4], vec![3, 4]));
}

#[test]
fn hw_15_a_wrapper_is_another_type() {
    #[derive(Clone, Debug)]
    struct Wrapped(#[allow(dead_code, reason = "wrapped")] A);
    impl Payload for Wrapped {
        type Output = ();
        fn event_type() -> &'static str {
            "A"
        }
    }
    let bus = EventBus::new("Newtype");
    let mut subscription = bus.subscribe::<A>();
    done(&bus.emit(Wrapped(A { n: 1 })));
    assert_eq!(subscription.recv_timeout(SOON).err(), Some(RecvError::Timeout));
}

#[test]
fn hw_16_a_shutdown_ends_the_stream() {
    let bus = EventBus::new("End");
    let mut blocked = bus.subscribe::<A>();
    let iterated = bus.subscribe::<A>();
    let reader = thread::spawn(move || blocked.recv().err());
    let iterator = thread::spawn(move || iterated.count());
    bus.shutdown(Shutdown::Now, PATIENCE);
    let ended = within(PATIENCE, move || (reader.join().unwrap(), iterator.join().unwrap()));
    assert_eq!(ended, (Some(RecvError::Closed), 0));
}

#[test]
fn hw_16b_a_subscription_to_a_closed_bus_is_closed_and_warns() {
    let bus = EventBus::new("WasClosed");
    let warnings = warnings_naming(bus.label());
    bus.shutdown(Shutdown::Now, PATIENCE);
    assert_eq!(bus.subscribe::<A>().recv().err(), Some(RecvError::Closed));
    eventually(|| warnings().iter().any(|warning| warning.contains("subscription")));
}

#[test]
fn hw_17_what_is_unread_can_be_read_after_a_shutdown() {
    let bus = EventBus::new("Drain");
    let subscription = bus.subscribe::<A>();
    emit_all(&bus, 1..=3);
    bus.shutdown(Shutdown::Now, PATIENCE);
    assert_eq!(subscription.map(|a| a.n).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn hw_18_dropping_a_subscription_frees_its_backlog() {
    let bus = EventBus::builder("Frees").max_history(Some(0)).build().unwrap();
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut subscription = bus.subscribe::<Counted>();
    for _ in 0..1000 {
        bus.emit(Counted(Arc::clone(&dropped)));
    }
    idle(&bus);
    // Some are taken out already, and not read.
    drop(subscription.recv());
    eventually(|| dropped.load(Ordering::SeqCst) == 1);
    drop(subscription);
    eventually(|| dropped.load(Ordering::SeqCst) == 1000);
}

#[test]
fn hw_18b_reading_frees_event_by_event() {
    let bus = EventBus::builder("Reads").max_history(Some(0)).build().unwrap();
    let dropped = Arc::new(AtomicUsize::new(0));
    let (mut fast, mut slow) = (bus.subscribe::<Counted>(), bus.subscribe_any());
    for _ in 0..500 {
        bus.emit(Counted(Arc::clone(&dropped)));
    }
    idle(&bus);
    assert_eq!(fast.try_iter().count(), 500);
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    for read in 1..=500 {
        drop(slow.recv());
        eventually(|| dropped.load(Ordering::SeqCst) == read);
    }
}

#[test]
fn hw_20_what_is_unread_stays() {
    let bus = EventBus::builder("Stays").max_history(Some(0)).build().unwrap();
    let dropped = Arc::new(AtomicUsize::new(0));
    let subscription = bus.subscribe::<Counted>();
    for _ in 0..1000 {
        bus.emit(Counted(Arc::clone(&dropped)));
    }
    idle(&bus);
    assert_eq!((dropped.load(Ordering::SeqCst), subscription.backlog(), subscription.lagged()), (0, 1000, 0));
}

#[test]
fn hw_22_nobody_answers() {
    let bus = EventBus::new("NoResponder");
    let mut answers = bus.subscribe::<B>();
    let start = Instant::now();
    bus.emit(A { n: 1 });
    assert_eq!(answers.recv_timeout(SOON).err(), Some(RecvError::Timeout));
    assert!(start.elapsed() >= SOON);
}

#[test]
fn hw_23_an_early_answer_is_not_missed() {
    let bus = EventBus::new("Early");
    bus.on(|a: &Event<A>| drop(a.bus().emit(B { n: a.n + 1 })));
    let mut answers = bus.subscribe::<B>();
    done(&bus.emit(A { n: 1 }));
    assert_eq!(answers.recv().unwrap().n, 2);
}

#[test]
fn hw_25_a_consumer_that_panics_hurts_nobody() {
    let bus = EventBus::new("Consumers");
    let (sender, received) = channel();
    let bad = bus.subscribe::<A>().spawn("bad", |_| panic!("on the first event"));
    let good = bus.subscribe::<A>().spawn("good", move |a| {
        let _ = sender.send(a.n);
    });
    for n in 0..3 {
        assert!(bus.try_emit(A { n }).is_ok());
    }
    drop(bus);
    assert!(bad.join().is_err());
    good.join().unwrap();
    assert_eq!(received.iter().collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn hw_26_each_producers_events_stay_in_order() {
    let bus = EventBus::new("Producers");
    let mut subscription = bus.subscribe::<Sequence>();
    thread::scope(|scope| {
        for producer in 0..4 {
            let bus = &bus;
            scope.spawn(move || (0..1000).for_each(|n| drop(bus.emit(Sequence { producer, n }))));
        }
    });
    let mut next = [0; 4];
    for event in subscription.try_iter() {
        assert_eq!(event.n, next[event.producer]);
        next[event.producer] += 1;
    }
    assert_eq!(next, [1000; 4]);
}

#[test]
fn hw_28_an_unbounded_subscription_holds_nobody_up() {
    let bus = EventBus::new("Stalled");
    let stalled = bus.subscribe::<A>();
    let stalled = within(PATIENCE, move || {
        emit_all(&bus, 0..10_000);
        stalled
    });
    assert_eq!(stalled.backlog(), 10_000);
}

#[test]
fn hw_29_a_consumer_may_emit_what_it_consumes() {
    let bus = EventBus::new("Echo");
    let (sender, received) = channel();
    let weak = bus.downgrade();
    let thread = bus.subscribe::<A>().spawn("echo", move |a| {
        if a.n == 1 {
            weak.upgrade().unwrap().emit(A { n: 2 });
        }
        let _ = sender.send(a.n);
    });
    bus.emit(A { n: 1 });
    assert_eq!([received.recv_timeout(PATIENCE), received.recv_timeout(PATIENCE)], [Ok(1), Ok(2)]);
    drop(bus);
    thread.join().unwrap();
    assert!(received.try_recv().is_err());
}

#[test]
fn hw_30_a_handler_may_subscribe() {
    let bus = EventBus::new("InHandler");
    let made = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&made);
    bus.on(move |event: &Event<B>| *lock(&keep) = Some(event.bus().subscribe::<A>()));
    bus.emit(A { n: 1 });
    done(&bus.emit(B { n: 0 }));
    emit_all(&bus, 2..=3);
    assert_eq!(numbers(lock(&made).as_mut().unwrap()), [2, 3]);
}

#[test]
fn hw_31_a_timeout_ends_the_call_and_not_the_subscription() {
    let bus = EventBus::new("Timeout");
    let mut subscription = bus.subscribe::<A>();
    let start = Instant::now();
    assert_eq!(subscription.recv_timeout(SOON).err(), Some(RecvError::Timeout));
    assert!(start.elapsed() >= SOON);
    bus.emit(A { n: 1 });
    assert_eq!(subscription.recv_timeout(PATIENCE).unwrap().n, 1);
    assert_eq!(subscription.recv_timeout(Duration::ZERO).err(), Some(RecvError::Timeout));
}

#[test]
fn hw_32_nobody_waits_for_subscriptions() {
    let bus = EventBus::new("Observed");
    let subscription = bus.subscribe::<A>();
    let ran = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&ran);
    bus.on(move |_: &Event<A>| {
        counts.fetch_add(1, Ordering::SeqCst);
    });
    done(&bus.emit(A { n: 1 }));
    assert_eq!((ran.load(Ordering::SeqCst), subscription.backlog()), (1, 1));
    // An event is complete a moment before its bus has counted it.
    within(PATIENCE, move || bus.wait_until_idle().unwrap());
    drop(subscription);
}

// Beside the lines: what blocks, and what ends that.

#[test]
fn a_full_blocking_subscription_holds_emitters_up_before_the_event_is_visible() {
    let bus = EventBus::new("Full");
    let mut subscription = bus.subscribe_bounded::<A>(2, OnLag::Block);
    emit_all(&bus, 1..=2);
    let emitter = {
        let bus = bus.clone();
        thread::spawn(move || bus.emit(A { n: 3 }))
    };
    done(&bus.emit(B { n: 0 }));
    linger();
    assert!(!emitter.is_finished());
    assert_eq!((bus.find::<A>().all().len(), subscription.backlog()), (2, 2));
    assert_eq!(subscription.recv().unwrap().n, 1);
    done(&within(PATIENCE, move || emitter.join().unwrap()));
    assert_eq!(numbers(&mut subscription), [2, 3]);
    assert_eq!(subscription.lagged(), 0);
}

#[test]
fn many_emitters_never_overfill_it() {
    let bus = EventBus::builder("Crowd").max_history(Some(0)).build().unwrap();
    let mut subscription = bus.subscribe_bounded::<Sequence>(3, OnLag::Block);
    let mut other = bus.subscribe_any_bounded(2, OnLag::Block);
    let reader =
        thread::spawn(move || (0..4000).map(|_| other.recv().unwrap().payload::<Sequence>().unwrap().n).count());
    let emitters: Vec<_> = (0..4)
        .map(|producer| {
            let bus = bus.clone();
            thread::spawn(move || (0..1000).for_each(|n| drop(bus.emit(Sequence { producer, n }))))
        })
        .collect();
    let mut next = [0; 4];
    for _ in 0..4000 {
        assert!(subscription.backlog() <= 3);
        let event = subscription.recv_timeout(PATIENCE).unwrap();
        assert_eq!(event.n, next[event.producer]);
        next[event.producer] += 1;
    }
    assert_eq!(within(PATIENCE, move || reader.join().unwrap()), 4000);
    emitters.into_iter().for_each(|emitter| emitter.join().unwrap());
}

/// Fills a subscription, lets an emitter wait for room, does `end`, and returns what became of the emitter's event.
fn released_by(end: impl FnOnce(&EventBus, Subscription<Event<A>>)) -> Result<(), WaitError> {
    let bus = EventBus::new("Released");
    let subscription = bus.subscribe_bounded::<A>(1, OnLag::Block);
    bus.emit(A { n: 1 });
    let emitter = {
        let bus = bus.clone();
        thread::spawn(move || bus.emit(A { n: 2 }))
    };
    linger();
    assert!(!emitter.is_finished());
    end(&bus, subscription);
    within(PATIENCE, move || emitter.join().unwrap().wait_timeout(PATIENCE)).map(drop)
}

#[test]
fn a_waiting_emitter_goes_on_when_the_subscription_is_gone() {
    assert_eq!(released_by(|_, subscription| drop(subscription)), Ok(()));
    assert_eq!(released_by(|_, subscription| subscription.closer().close()), Ok(()));
    let kept = Mutex::new(None);
    let shut = released_by(|bus, subscription| {
        *lock(&kept) = Some(subscription);
        bus.shutdown(Shutdown::Now, PATIENCE);
    });
    assert!(matches!(shut, Err(WaitError::Rejected(EmitError::Closed { .. }))));
    let panicked = released_by(|_, subscription| {
        assert!(subscription.spawn("panics", |_| panic!("in the reader")).join().is_err());
    });
    assert_eq!(panicked, Ok(()));
}

#[test]
fn inside_a_handler_the_backlog_grows_instead() {
    let bus = EventBus::new("Grows");
    let mut subscription = bus.subscribe_bounded::<A>(1, OnLag::Block);
    bus.on(|event: &Event<B>| emit_all(&event.bus(), 1..=100));
    done(&bus.emit(B { n: 0 }));
    assert_eq!(subscription.backlog(), 100);
    assert_eq!(numbers(&mut subscription), (1..=100).collect::<Vec<_>>());
    done(&bus.emit(A { n: 101 }));
}

#[test]
fn a_forward_waits_for_room_as_an_emit_does() {
    let (a, b) = (EventBus::new("From"), EventBus::new("To"));
    let mut subscription = b.subscribe_bounded::<A>(1, OnLag::Block);
    b.emit(A { n: 1 });
    let event = done(&a.emit(A { n: 2 }));
    let forwarder = {
        let (b, event) = (b.clone(), event.clone());
        thread::spawn(move || b.forward(&event))
    };
    linger();
    assert!(!forwarder.is_finished());
    assert_eq!(event.path().len(), 1);
    assert_eq!(subscription.recv().unwrap().n, 1);
    assert_eq!(within(PATIENCE, move || forwarder.join().unwrap()), Ok(()));
    assert_eq!(numbers(&mut subscription), [2]);
    // It is there already: nothing to wait for.
    b.emit(A { n: 3 });
    assert_eq!(b.forward(&event), Ok(()));
}

#[test]
fn a_refusal_does_not_wait_for_room() {
    let bus = EventBus::builder("Refuses").require_handler(true).queue_capacity(1, OnFull::Reject).build().unwrap();
    let _full = bus.subscribe_any_bounded(1, OnLag::Block);
    let handler = bus.on(|_: &Event<A>| {});
    done(&bus.emit(A { n: 1 }));
    bus.off(&handler);
    let refused = within(PATIENCE, move || bus.emit(A { n: 2 }).wait().err());
    assert!(matches!(refused, Some(WaitError::Rejected(EmitError::NoHandler { .. }))));
}

#[test]
fn a_capacity_of_nothing_is_one() {
    let bus = EventBus::new("One");
    let mut subscription = bus.subscribe_bounded::<A>(0, OnLag::DropOldest);
    emit_all(&bus, 1..=3);
    assert_eq!(subscription.recv().err(), Some(RecvError::Lagged(2)));
    assert_eq!(subscription.recv().unwrap().n, 3);
}

#[test]
fn an_iterator_skips_over_what_was_lost() {
    let bus = EventBus::new("Iterates");
    let subscription = bus.subscribe_bounded::<A>(2, OnLag::DropOldest);
    emit_all(&bus, 1..=5);
    drop(bus);
    assert_eq!(subscription.map(|a| a.n).collect::<Vec<_>>(), [4, 5]);
}

#[test]
fn what_drop_oldest_drops_is_dropped_outside_of_all_locks() {
    /// Asks its bus when it is dropped, which would never return under a lock of the bus.
    struct Asks(Option<threadbus::WeakBus>, Arc<AtomicUsize>);
    impl Payload for Asks {
        type Output = ();
    }
    impl Drop for Asks {
        fn drop(&mut self) {
            if let Some(bus) = self.0.as_ref().and_then(threadbus::WeakBus::upgrade) {
                self.1.fetch_add(bus.history_len() + 1, Ordering::SeqCst);
            }
        }
    }
    let bus = EventBus::builder("Asks").max_history(Some(0)).build().unwrap();
    let subscription = bus.subscribe_bounded::<Asks>(4, OnLag::DropOldest);
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&asked);
    let (bus, subscription) = within(PATIENCE, move || {
        for _ in 0..100 {
            done(&bus.emit(Asks(Some(bus.downgrade()), Arc::clone(&counts))));
        }
        (bus, subscription)
    });
    eventually(|| asked.load(Ordering::SeqCst) >= 96);
    within(PATIENCE, move || drop(subscription));
    eventually(|| asked.load(Ordering::SeqCst) >= 100);
    drop(bus);
}

#[test]
fn a_payload_that_panics_when_dropped_does_not_hurt_a_subscription() {
    struct Bomb;
    impl Payload for Bomb {
        type Output = ();
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let bus = EventBus::builder("Bombs").max_history(Some(0)).build().unwrap();
    let subscription = bus.subscribe_bounded::<Bomb>(2, OnLag::DropOldest);
    for _ in 0..5 {
        bus.emit(Bomb);
    }
    idle(&bus);
    assert_eq!((subscription.lagged(), subscription.backlog()), (3, 2));
    drop(subscription);
    done(&bus.emit(A { n: 1 }));
}

#[test]
fn a_recv_in_a_handler_gets_what_others_emit_and_ends_when_it_is_given_up() {
    let runtime = Runtime::builder().max_threads(1).build().unwrap();
    let bus = EventBus::builder("Receives").runtime(&runtime).build().unwrap();
    let (log, began) = (Log::new(), Gate::new());
    let (logs, begins) = (log.clone(), began.clone());
    bus.on(move |event: &Event<B>| -> Result<(), HandlerError> {
        let mut subscription = event.bus().subscribe::<A>();
        begins.open();
        while let Ok(a) = subscription.recv() {
            logs.push(a.n);
        }
        logs.push("closed");
        Ok(())
    });
    let event = bus.emit(B { n: 0 });
    began.wait();
    emit_all(&bus, 1..=2);
    eventually(|| log.len() == 2);
    // Its place in the pool of one is free for another bus meanwhile.
    eventually(|| runtime.stats().waiting == 1);
    let other = EventBus::builder("Other").runtime(&runtime).build().unwrap();
    done(&other.emit(A { n: 9 }));
    assert!(event.cancel());
    eventually(|| log.entries() == ["1", "2", "closed"]);
    idle(&bus);
}

#[test]
fn a_recv_in_a_filter_does_not_wait() {
    let bus = EventBus::new("Filter");
    bus.emit(A { n: 1 });
    let subscription = Mutex::new(bus.subscribe::<B>());
    let filter = |_: &Event<A>| lock(&subscription).recv().err() == Some(RecvError::Closed);
    assert!(bus.find::<A>().filter(filter).first().is_some());
    // It was the call that could not wait; the subscription goes on.
    bus.emit(B { n: 2 });
    assert_eq!(lock(&subscription).recv().unwrap().n, 2);
}

#[test]
fn forwarded_events_are_seen_on_each_bus_once() {
    let (a, b) = (EventBus::new("A"), EventBus::new("B"));
    a.forward_all_to(&b);
    b.forward_all_to(&a);
    let (mut of_a, mut of_b) = (a.subscribe_any(), b.subscribe_any());
    let event = done(&a.emit(A { n: 1 }));
    let ids = |subscription: &mut Subscription<AnyEvent>| subscription.try_iter().map(|e| e.id()).collect::<Vec<_>>();
    assert_eq!((ids(&mut of_a), ids(&mut of_b)), (vec![event.id()], vec![event.id()]));
}

#[test]
fn subscribing_and_leaving_while_others_emit_is_safe() {
    let bus = EventBus::builder("Churn").max_history(Some(0)).build().unwrap();
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                start.wait();
                emit_all(&bus, 0..3000);
            });
            scope.spawn(|| {
                start.wait();
                for round in 0..300 {
                    let mut subscription = match round % 3 {
                        0 => bus.subscribe::<A>(),
                        1 => bus.subscribe_bounded::<A>(2, OnLag::Block),
                        _ => bus.subscribe_bounded::<A>(2, OnLag::DropOldest),
                    };
                    let read = numbers(&mut subscription);
                    assert!(read.len() <= 3000);
                }
            });
        }
    });
    idle(&bus);
}
