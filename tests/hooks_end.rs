//! An ended attempt keeps nothing: the hooks of handlers that returned are dropped, unheard, at every end.

mod common;

use common::{Gate, PATIENCE, context, done, eventually, idle, payload};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use threadbus::{
    Event, EventBus, EventConcurrency, EventOptions, HandlerCompletion, HandlerConcurrency, HandlerContext,
    HandlerError, HandlerOptions, Limit, Retry, Shutdown, WaitError,
};

payload!(Job { n: u32 } => u32);
payload!(Inner => u32);

const HOUR: Duration = Duration::from_secs(3600);

/// What became of hooks.
#[derive(Clone, Debug, Default)]
struct Hooks {
    made: Arc<AtomicUsize>,
    run: Arc<AtomicUsize>,
    gone: Arc<AtomicUsize>,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Hooks {
    /// One more, which counts its run and its drop.
    fn hook(&self) -> impl FnOnce() + Send + 'static {
        self.made.fetch_add(1, SeqCst);
        let (run, token) = (Arc::clone(&self.run), Counted(Arc::clone(&self.gone)));
        move || {
            let _token = token;
            run.fetch_add(1, SeqCst);
        }
    }

    fn register(&self) {
        context().on_cancel(self.hook());
    }

    /// Made, run and gone.
    fn counts(&self) -> [usize; 3] {
        [&self.made, &self.run, &self.gone].map(|count| count.load(SeqCst))
    }
}

fn failing(hooks: &Hooks) -> impl Fn(&Event<Job>) -> Result<Option<u32>, HandlerError> + use<> {
    let hooks = hooks.clone();
    move |job| {
        hooks.register();
        hooks.register();
        match job.n {
            0 => Ok(Some(1)),
            1 => Ok(None),
            2 => Err("an error".into()),
            3 => Err(HandlerError::permanent("for good")),
            _ => panic!("a panic"),
        }
    }
}

#[test]
fn hooks_are_gone_when_an_event_is_complete_however_its_handlers_ended() {
    let modes = [
        (EventConcurrency::BusSerial, HandlerConcurrency::EventSerial, HandlerCompletion::All),
        (EventConcurrency::Parallel, HandlerConcurrency::Parallel, HandlerCompletion::All),
        (EventConcurrency::GlobalSerial, HandlerConcurrency::GlobalSerial, HandlerCompletion::All),
        (EventConcurrency::Parallel, HandlerConcurrency::BusSerial, HandlerCompletion::All),
        (EventConcurrency::BusSerial, HandlerConcurrency::EventSerial, HandlerCompletion::First),
    ];
    for (events, handlers, completion) in modes {
        for limited in [false, true] {
            let bus = EventBus::builder("Returned")
                .event_concurrency(events)
                .handler_concurrency(handlers)
                .handler_completion(completion)
                .build()
                .unwrap();
            let hooks = Hooks::default();
            for _ in 0..3 {
                let options = HandlerOptions::new();
                let options = if limited { options.limit(Limit::new(2)) } else { options };
                bus.on_with(options, failing(&hooks));
            }
            let all_gone = |what: &dyn std::fmt::Debug| {
                let [made, run, gone] = hooks.counts();
                assert_eq!(run, 0, "{events:?} {handlers:?} {completion:?} {limited} {what:?}");
                if handlers == HandlerConcurrency::Parallel {
                    // Each thread drops what its own handler left.
                    return eventually(|| hooks.counts() == [made, 0, made]);
                }
                assert_eq!(gone, made, "{events:?} {handlers:?} {completion:?} {limited} {what:?}");
            };
            for n in 0..5 {
                let event = done(&bus.emit(Job { n }));
                all_gone(&n);
                assert!(!event.cancel(), "it is complete");
            }
            bus.emit_now(Job { n: 0 });
            all_gone(&"emit_now");
            assert!(hooks.counts()[0] >= 12);
        }
    }
}

#[test]
fn each_attempt_starts_without_the_hooks_of_the_one_before() {
    for delay in [Duration::ZERO, Duration::from_millis(1)] {
        let bus = EventBus::new("Attempts");
        let hooks = Hooks::default();
        let seen = Arc::new(Mutex::new(Vec::new()));
        bus.on_with(HandlerOptions::new().retry(Retry::attempts(4).delay(delay)), {
            let (hooks, seen) = (hooks.clone(), Arc::clone(&seen));
            move |_: &Event<Job>| -> Result<u32, HandlerError> {
                seen.lock().unwrap().push(hooks.counts());
                hooks.register();
                if context().attempt() < 4 { Err("again".into()) } else { Ok(4) }
            }
        });
        assert_eq!(done(&bus.emit(Job { n: 0 })).result().unwrap(), 4);
        assert_eq!(*seen.lock().unwrap(), [[0, 0, 0], [1, 0, 1], [2, 0, 2], [3, 0, 3]]);
        assert_eq!(hooks.counts(), [4, 0, 4]);
    }
}

#[test]
fn hooks_of_who_is_given_up_run_once_and_are_gone() {
    let bus = EventBus::builder("GivenUp").event_concurrency(EventConcurrency::Parallel).build().unwrap();
    let hooks = Hooks::default();
    bus.on({
        let hooks = hooks.clone();
        move |_: &Event<Job>| -> Result<u32, WaitError> {
            hooks.register();
            context().sleep(HOUR).map(|()| 0)
        }
    });
    done(&bus.emit_with(Job { n: 0 }, EventOptions::new().handler_timeout(Duration::from_millis(20))));
    eventually(|| hooks.counts() == [1, 1, 1]);
    done(&bus.emit_with(Job { n: 0 }, EventOptions::new().timeout(Duration::from_millis(20))));
    eventually(|| hooks.counts() == [2, 2, 2]);
    let event = bus.emit(Job { n: 0 });
    eventually(|| hooks.counts()[0] == 3);
    assert!(event.cancel());
    eventually(|| hooks.counts() == [3, 3, 3]);
    bus.emit(Job { n: 0 });
    eventually(|| hooks.counts()[0] == 4);
    bus.shutdown(Shutdown::Now, PATIENCE);
    eventually(|| hooks.counts() == [4, 4, 4]);
}

#[test]
fn a_lost_first_runs_the_losers_hook_and_not_the_winners() {
    let bus = EventBus::builder("First")
        .handler_concurrency(HandlerConcurrency::Parallel)
        .handler_completion(HandlerCompletion::First)
        .build()
        .unwrap();
    let (winner, loser, quitter) = (Hooks::default(), Hooks::default(), Hooks::default());
    bus.on({
        let (winner, loser, quitter) = (winner.clone(), loser.clone(), quitter.clone());
        move |_: &Event<Job>| {
            winner.register();
            eventually(|| loser.counts()[0] == 1 && quitter.counts() == [1, 0, 1]);
            1
        }
    });
    bus.on({
        let loser = loser.clone();
        move |_: &Event<Job>| -> Result<u32, WaitError> {
            loser.register();
            context().sleep(HOUR).map(|()| 2)
        }
    });
    bus.on({
        let quitter = quitter.clone();
        move |_: &Event<Job>| -> Result<Option<u32>, WaitError> {
            quitter.register();
            Ok(None)
        }
    });
    assert_eq!(done(&bus.emit(Job { n: 0 })).result().unwrap(), 1);
    eventually(|| loser.counts() == [1, 1, 1]);
    assert_eq!((winner.counts(), quitter.counts()), ([1, 0, 1], [1, 0, 1]));
}

#[test]
fn a_hook_that_comes_after_the_return_is_dropped_unheard() {
    let bus = EventBus::new("After");
    let (sent, contexts) = mpsc::channel();
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(2)), {
        let sent = Mutex::new(sent);
        move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let context = context();
            sent.lock().unwrap().send(context.clone()).unwrap();
            if job.n == 1 && context.attempt() == 1 { Err("again".into()) } else { Ok(1) }
        }
    });
    for n in 0..2 {
        let event = done(&bus.emit(Job { n }));
        let hooks = Hooks::default();
        let contexts: Vec<_> = contexts.try_iter().collect();
        assert_eq!(contexts.len(), n as usize + 1);
        for context in contexts {
            let here = hooks.clone();
            context.on_cancel(here.hook());
            std::thread::spawn(move || context.on_cancel(here.hook())).join().unwrap();
        }
        let [made, run, gone] = hooks.counts();
        assert_eq!((run, gone), (0, made), "of {event}");
    }
}

#[test]
fn a_hook_that_comes_after_the_attempt_was_given_up_runs_at_once() {
    let bus = EventBus::builder("Late").event_concurrency(EventConcurrency::Parallel).build().unwrap();
    let (hooks, gate) = (Hooks::default(), Gate::new());
    let _opener = gate.opener();
    // The first attempt stands in the gate past its time; the second one is done at once, and the third is none.
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(2)).timeout(Duration::from_millis(20)), {
        let (hooks, gate) = (hooks.clone(), gate.clone());
        move |_: &Event<Job>| {
            if context().attempt() == 1 {
                gate.wait();
                let [made, run, _] = hooks.counts();
                hooks.register();
                assert_eq!(hooks.counts(), [made + 1, run + 1, made + 1]);
                let (context, from_there) = (context(), hooks.clone());
                std::thread::spawn(move || context.on_cancel(from_there.hook())).join().unwrap();
            }
            7
        }
    });
    assert_eq!(done(&bus.emit(Job { n: 0 })).result().unwrap(), 7);
    gate.open();
    eventually(|| hooks.counts() == [2, 2, 2]);
    // Cancelled for good, while it stands.
    let gate = Gate::new();
    let _opener = gate.opener();
    let (sent, contexts) = mpsc::channel();
    bus.on({
        let (gate, sent) = (gate.clone(), Mutex::new(sent));
        move |_: &Event<Inner>| {
            sent.lock().unwrap().send(context()).unwrap();
            gate.wait();
            1
        }
    });
    let event = bus.emit(Inner);
    let context = contexts.recv_timeout(PATIENCE).unwrap();
    assert!(event.cancel());
    context.on_cancel(hooks.hook());
    assert_eq!(hooks.counts(), [3, 3, 3]);
}

#[test]
fn hooks_are_dropped_outside_of_every_lock() {
    struct Looks {
        event: Event<Job>,
        context: HandlerContext,
        looked: Arc<AtomicUsize>,
    }
    impl Drop for Looks {
        fn drop(&mut self) {
            let bus = self.event.bus();
            // Each of these takes a lock that the end of a handler is under.
            assert!(self.event.results().len() == 1 && self.context.is_cancelled());
            bus.emit(Inner);
            drop(format!("{bus:?} {:?}", bus.runtime()));
            self.looked.fetch_add(1, SeqCst);
        }
    }
    for handlers in [HandlerConcurrency::EventSerial, HandlerConcurrency::Parallel, HandlerConcurrency::GlobalSerial] {
        let bus = EventBus::builder("Locks").handler_concurrency(handlers).build().unwrap();
        bus.on(|_: &Event<Inner>| 1);
        let looked = Arc::new(AtomicUsize::new(0));
        bus.on_with(HandlerOptions::new().retry(Retry::attempts(2)), {
            let looked = Arc::clone(&looked);
            move |job: &Event<Job>| -> Result<u32, HandlerError> {
                let looks = Looks { event: job.clone(), context: context(), looked: Arc::clone(&looked) };
                context().on_cancel(move || drop(looks));
                if context().attempt() == 1 { Err("again".into()) } else { Ok(1) }
            }
        });
        done(&bus.emit(Job { n: 0 }));
        idle(&bus);
        assert_eq!(looked.load(SeqCst), 2, "{handlers:?}");
    }
}

#[test]
fn a_hook_whose_drop_panics_or_waits_harms_nobody() {
    struct Bomb(EventBus);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(matches!(self.0.wait_until_idle(), Err(WaitError::Deadlock(_))));
            panic!("a hook's drop");
        }
    }
    let bus = EventBus::new("Bombs");
    let hooks = Hooks::default();
    bus.on({
        let hooks = hooks.clone();
        move |job: &Event<Job>| {
            for _ in 0..3 {
                let bomb = Bomb(job.bus());
                context().on_cancel(move || drop(bomb));
                hooks.register();
            }
            job.n
        }
    });
    for n in 0..3 {
        assert_eq!(done(&bus.emit(Job { n })).result().unwrap(), n);
        let all = 3 * (n as usize + 1);
        assert_eq!(hooks.counts(), [all, 0, all]);
    }
}

/// A hook often has the event: that must not keep it for good.
#[test]
fn a_hook_that_holds_its_event_goes_with_the_attempt() {
    struct Heavy(Arc<AtomicUsize>);
    impl threadbus::Payload for Heavy {
        type Output = ();
    }
    impl Drop for Heavy {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let bus = EventBus::builder("Circle").max_history(Some(0)).build().unwrap();
    bus.on(|event: &Event<Heavy>| {
        let kept = event.clone();
        context().on_cancel(move || drop(kept));
    });
    let gone = Arc::new(AtomicUsize::new(0));
    for _ in 0..1000 {
        bus.emit(Heavy(Arc::clone(&gone)));
    }
    idle(&bus);
    eventually(|| gone.load(SeqCst) == 1000);
}

/// Thousands of handlers of one event, each with a hook, on as many threads as there are.
#[test]
fn thousands_of_hooks_on_one_event_are_gone_with_it() {
    let bus = EventBus::builder("Thousands").handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
    let hooks = Hooks::default();
    for _ in 0..2000 {
        let hooks = hooks.clone();
        bus.on(move |job: &Event<Job>| {
            hooks.register();
            job.n
        });
    }
    for n in 1..=3 {
        done(&bus.emit(Job { n: 1 }));
        // Where handlers run beside each other, each thread drops what its own one left.
        eventually(|| hooks.counts() == [2000 * n, 0, 2000 * n]);
    }
}

#[test]
fn a_guard_keeps_its_hook_no_longer_than_itself() {
    let bus = EventBus::new("Guards");
    let (hooks, gate, inside) = (Hooks::default(), Gate::new(), Gate::new());
    let _opener = gate.opener();
    bus.on({
        let (hooks, gate, inside) = (hooks.clone(), gate.clone(), inside.clone());
        move |_: &Event<Job>| {
            for n in 0..1000 {
                let guard = context().cancel_guard(hooks.hook());
                assert_eq!(hooks.counts(), [n + 1, 0, n]);
                drop(guard);
            }
            // Two at once, ended in the other order than they began.
            let (first, second) = (context().cancel_guard(hooks.hook()), context().cancel_guard(hooks.hook()));
            drop(first);
            assert_eq!(hooks.counts(), [1002, 0, 1001]);
            let third = context().cancel_guard(hooks.hook());
            inside.open();
            gate.wait();
            // Both have run; their guards find nothing.
            drop((second, third));
            // And at once, by now.
            drop(context().cancel_guard(hooks.hook()));
            1
        }
    });
    let event = bus.emit(Job { n: 0 });
    inside.wait();
    assert!(event.cancel());
    eventually(|| hooks.counts() == [1003, 2, 1003]);
    gate.open();
    eventually(|| hooks.counts() == [1004, 3, 1004]);
}

#[test]
fn a_guard_that_outlives_its_attempt_or_its_event_harms_nobody() {
    let bus = EventBus::builder("Outlives").max_history(Some(0)).build().unwrap();
    let hooks = Hooks::default();
    let (sent, guards) = mpsc::channel();
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(3)), {
        let (hooks, sent) = (hooks.clone(), Mutex::new(sent));
        move |_: &Event<Job>| -> Result<u32, HandlerError> {
            sent.lock().unwrap().send(context().cancel_guard(hooks.hook())).unwrap();
            if context().attempt() < 3 { Err("again".into()) } else { Ok(1) }
        }
    });
    let event = done(&bus.emit(Job { n: 0 }));
    assert_eq!(hooks.counts(), [3, 0, 3]);
    drop(guards.try_recv());
    drop(event);
    assert_eq!(guards.try_iter().count(), 2);
    assert_eq!(hooks.counts(), [3, 0, 3]);
}
