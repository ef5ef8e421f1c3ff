//! Under `forbid_blocking` no call of ours stands still: each says where, at once.

#[macro_use]
mod common;

use common::{Gate, PATIENCE, warnings_naming, within};
use std::thread;
use std::time::Duration;
use threadbus::*;

payload!(Ping { n: u32 } => u32);
payload!(Child { n: u32 } => u32);

type Anything = Result<(), Box<dyn std::error::Error>>;

/// A bus with one event that stands in a handler, and one behind it.
fn busy(gate: &Gate) -> (EventBus, Event<Ping>, Event<Ping>) {
    let bus = EventBus::new("busy");
    let entered = Gate::new();
    let (open, stand) = (entered.clone(), gate.clone());
    bus.on(move |ping: &Event<Ping>| {
        open.open();
        stand.wait();
        ping.n
    });
    let (first, second) = (bus.emit(Ping { n: 1 }), bus.emit(Ping { n: 2 }));
    entered.wait();
    (bus, first, second)
}

#[track_caller]
fn says_where<T: std::fmt::Debug>(answer: Result<T, WaitError>) {
    match answer {
        Err(WaitError::Deadlock(why)) => {
            assert!(why.contains("blocking is forbidden"), "{why}");
            assert_eq!(why.matches(file!()).count(), 2, "where it was forbidden, and the call: {why}");
        }
        other => panic!("{other:?}"),
    }
}

fn wait_error<T>(answer: Result<T, ResultError>) -> Result<T, WaitError> {
    answer.map_err(|error| match error {
        ResultError::Wait(error) => error,
        other => panic!("{other}"),
    })
}

#[test]
fn every_wait_answers_at_once_and_says_where() -> Anything {
    within(PATIENCE, || {
        let gate = Gate::new();
        let _opener = gate.opener();
        let (bus, first, second) = busy(&gate);
        let ui = forbid_blocking();
        says_where(first.wait());
        says_where(second.wait_timeout(PATIENCE));
        says_where(second.wait_in_order());
        says_where(AsRef::<AnyEvent>::as_ref(&second).wait());
        says_where(wait_error(second.result()));
        says_where(wait_error(second.result_list()));
        says_where(wait_error(second.first()));
        says_where(wait_error(second.select().allow_errors().one()));
        says_where(wait_error(second.select().list()));
        says_where(bus.wait_until_idle());
        says_where(bus.wait_until_idle_timeout(PATIENCE));
        let batch = bus.batch();
        batch.add(&second);
        says_where(batch.wait());
        says_where(batch.wait_timeout(PATIENCE));
        drop(ui);
        gate.open();
        assert_eq!(second.result().ok(), Some(2));
    });
    Ok(())
}

#[test]
fn what_need_not_wait_is_not_affected() -> Anything {
    let bus = EventBus::new("free");
    bus.on(|ping: &Event<Ping>| ping.n);
    let done = bus.emit(Ping { n: 1 }).wait()?;
    bus.wait_until_idle()?;
    let batch = bus.batch();
    batch.add(&done);
    let mut pings = bus.subscribe::<Ping>();
    let _ui = forbid_blocking();
    assert_eq!(done.wait()?.n, 1);
    assert_eq!(done.result()?, 1);
    assert_eq!(batch.wait()?.completed, 1);
    bus.wait_until_idle()?;
    assert!(bus.find::<Ping>().future(PATIENCE).first().is_some(), "the past has it");
    bus.emit(Ping { n: 2 });
    assert_eq!(pings.recv()?.n, 2);
    // A bus that never ran anything: the other's turn may be free only a moment later.
    let fresh = EventBus::new("fresh");
    assert!(fresh.emit_now(Ping { n: 3 }).id() > done.id());
    Ok(())
}

#[test]
fn it_nests_and_ends_with_its_guard_and_is_one_threads() -> Anything {
    let bus = EventBus::new("nested");
    bus.on(|ping: &Event<Ping>| ping.n);
    let gate = Gate::new();
    let _opener = gate.opener();
    let outer = forbid_blocking();
    let inner = forbid_blocking();
    drop(outer);
    bus.pause();
    let ping = bus.emit(Ping { n: 1 });
    says_where(ping.wait());
    let other = {
        let ping = ping.clone();
        thread::spawn(move || ping.result())
    };
    bus.resume();
    assert_eq!(other.join().expect("no panic")?, 1, "another thread may");
    drop(inner);
    assert_eq!(bus.emit(Ping { n: 2 }).result()?, 2);
    assert!(format!("{:?}", forbid_blocking()).contains(file!()));
    Ok(())
}

#[test]
fn calls_without_an_error_do_not_wait_and_log_where() -> Anything {
    within(PATIENCE, || {
        let errors = warnings_naming("blocking is forbidden");
        let gate = Gate::new();
        let _opener = gate.opener();
        let (bus, first, _) = busy(&gate);
        let mut count = 0;
        let mut logged = |what: &str| {
            count += 1;
            let all = errors();
            assert_eq!(all.len(), count, "{what}: {all:?}");
            assert!(all[count - 1].contains(what), "{what}: {all:?}");
            assert_eq!(all[count - 1].matches(file!()).count(), 2, "{all:?}");
        };
        let ui = forbid_blocking();
        assert!(bus.find::<Child>().future(PATIENCE).first().is_none());
        logged("finds");
        assert_eq!(bus.subscribe::<Child>().recv().err(), Some(RecvError::Closed));
        logged("receives");
        assert_eq!(bus.subscribe::<Child>().recv_timeout(PATIENCE).err(), Some(RecvError::Closed));
        logged("receives");
        assert!(bus.subscribe::<Child>().next().is_none());
        logged("receives");

        let full = EventBus::builder("full").queue_capacity(1, OnFull::Block).build().expect("a bus");
        full.pause();
        assert_eq!(full.emit(Ping { n: 1 }).status(), EventStatus::Pending);
        let refused = full.emit(Ping { n: 2 }).wait().map(drop);
        assert!(matches!(refused, Err(WaitError::Rejected(EmitError::QueueFull { .. }))), "{refused:?}");
        logged("full queue");
        // It does not wait anywhere, and is refused without a word.
        assert!(full.try_emit(Ping { n: 3 }).is_err_and(|error| error.payload.n == 3));

        let now = bus.emit_now(Ping { n: 9 });
        assert!(!now.is_completed(), "the serial bus is busy");
        logged("now");
        let report = bus.shutdown(Shutdown::Drain, PATIENCE);
        assert_eq!((report.completed, report.cancelled), (0, 0));
        logged("shuts");
        drop(ui);
        gate.open();
        assert_eq!(now.result().ok(), Some(9));
        assert!(first.is_completed());
        bus.wait_until_idle().expect("it drains by itself");
    });
    Ok(())
}

#[test]
fn a_manual_bus_is_pumped_under_it() -> Anything {
    let ui = EventBus::builder("ui").manual().build()?;
    let work = EventBus::new("work");
    let gate = Gate::new();
    let _opener = gate.opener();
    let stand = gate.clone();
    work.on(move |child: &Event<Child>| {
        stand.wait();
        child.n
    });
    let to = work.downgrade();
    ui.on(|child: &Event<Child>| child.n + 1);
    ui.on(move |ping: &Event<Ping>| -> Result<u32, HandlerError> {
        // Runs here and now, so that nothing blocks.
        let own = ping.bus().emit(Child { n: ping.n }).result()?;
        // Would sit until the other thread is through.
        let detached = EventOptions::new().detached();
        says_where(to.upgrade().ok_or("gone")?.emit_with(Child { n: 1 }, detached).wait());
        let context = HandlerContext::current().ok_or("outside")?;
        says_where(context.sleep(Duration::from_millis(1)));
        Ok(own)
    });
    let _guard = forbid_blocking();
    let ping = ui.emit(Ping { n: 4 });
    says_where(ping.wait());
    assert_eq!(ui.run_pending(), 2);
    assert_eq!(ping.result()?, 5);
    assert!(ui.emit_now(Child { n: 5 }).is_completed());
    Ok(())
}

#[test]
fn a_subscription_that_blocks_its_emitters_grows_instead() -> Anything {
    let bus = EventBus::new("grows");
    let slow = bus.subscribe_bounded::<Ping>(1, OnLag::Block);
    let _ui = forbid_blocking();
    for n in 0..3 {
        bus.emit(Ping { n });
    }
    assert_eq!(slow.backlog(), 3);
    Ok(())
}
