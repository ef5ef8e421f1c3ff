//! Holders of places that wait, under shuttle: who lends to whom, who is woken, and circles that close when somebody stands in line or leaves.
//! `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_asleep`, with `THREADBUS_SCHEDULES` (default 2,000).
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::*;
use shuttle::sync::mpsc::{Receiver, Sender, channel};
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;
use threadbus::*;

fn parallel(runtime: &Runtime) -> EventBus {
    let bus = EventBus::builder("free").runtime(runtime).event_concurrency(EventConcurrency::Parallel);
    bus.handler_concurrency(HandlerConcurrency::Parallel).build().unwrap()
}

/// A circle that is told ends the wait as well as what it waited for does.
fn waited(ended: Result<(), WaitError>) -> Result<(), HandlerError> {
    match ended {
        Ok(()) | Err(WaitError::Deadlock(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What a handler that is inside already shall wait for.
struct Told<P: Payload> {
    started: Sender<()>,
    awaits: Mutex<Receiver<Event<P>>>,
}

/// The handler's side, and the model's.
fn told<P: Payload>() -> (Told<P>, Receiver<()>, Sender<Event<P>>) {
    let ((started, has_started), (awaits, awaited)) = (channel(), channel());
    (Told { started, awaits: Mutex::new(awaited) }, has_started, awaits)
}

impl<P: Payload> Told<P> {
    fn starts(&self) -> Event<P> {
        self.started.send(()).unwrap();
        self.awaits.lock().unwrap().recv().unwrap()
    }
}

macro_rules! payloads {
    ($($name:ident$(($($field:ty),*))?),*) => {
        $(struct $name$(($($field),*))?;
        impl Payload for $name {
            type Output = ();
        })*
    };
}
payloads!(Outer, Inner, Middle(Event<Inner>), Herd(Event<Gate>), Gate, Leaf);

#[test]
fn four_that_wait_for_one_event_share_one_place_afterwards() {
    check(|| {
        let runtime = runtime();
        let bus = parallel(&runtime);
        let (limit, alone) = (Limit::new(1), Arc::new(Alone::default()));
        bus.on(|_: &Event<Gate>| thread::yield_now());
        bus.on(|herd: &Event<Herd>| -> Result<(), HandlerError> {
            herd.0.wait()?;
            herd.bus().emit(Leaf).wait()?;
            Ok(())
        });
        bus.on_with(limited(&limit), move |_: &Event<Leaf>| alone.run(|| {}));
        let gate = bus.emit(Gate);
        let herd = [(); 4].map(|()| bus.emit(Herd(gate.clone())));
        herd.each_ref().map(|event| event.result().unwrap());
        at_rest(&bus);
    });
}

#[test]
fn a_place_is_lent_to_one_after_the_other_while_its_holder_goes_from_wait_to_wait() {
    check(|| {
        let runtime = runtime();
        let bus = parallel(&runtime);
        let (limit, alone) = (Limit::new(1), Arc::new(Alone::default()));
        bus.on_with(limited(&limit), move |_: &Event<Leaf>| alone.run(|| {}));
        bus.on_with(limited(&limit), |outer: &Event<Outer>| -> Result<(), HandlerError> {
            let leaves = [(); 2].map(|()| outer.bus().emit(Leaf));
            for leaf in leaves {
                leaf.wait()?;
            }
            Ok(())
        });
        let (outer, beside) = (bus.emit(Outer), bus.emit(Leaf));
        outer.result().unwrap();
        beside.result().unwrap();
        at_rest(&bus);
    });
}

/// The other place stays taken until the place is lent, so nobody is woken to look again.
#[test]
fn a_place_is_lent_to_what_gets_into_the_line_just_as_its_holder_parks() {
    check(|| {
        let runtime = runtime();
        let bus = parallel(&runtime);
        let limit = Limit::new(2);
        let (own, started, tell) = told::<Inner>();
        bus.on_with(limited(&limit), move |_: &Event<Outer>| own.starts().wait().map(drop));
        let ((inside, is_inside), (lent, is_lent)) = (channel(), channel());
        let is_lent = Mutex::new(is_lent);
        bus.on_with(limited(&limit), move |_: &Event<Leaf>| {
            inside.send(()).unwrap();
            is_lent.lock().unwrap().recv().unwrap();
        });
        bus.on_with(limited(&limit), move |_: &Event<Inner>| lent.send(()).unwrap());
        let (outer, beside) = (bus.emit(Outer), bus.emit(Leaf));
        started.recv().unwrap();
        is_inside.recv().unwrap();
        tell.send(bus.emit(Inner)).unwrap();
        outer.result().unwrap();
        beside.result().unwrap();
        at_rest(&bus);
    });
}

/// The holder waits for what waits for what stands in line: neither is a child of the other.
#[test]
fn a_place_is_lent_over_waits_on_other_threads_whichever_comes_last() {
    check(|| {
        let runtime = runtime();
        let bus = parallel(&runtime);
        let limit = Limit::new(1);
        let (own, started, tell) = told::<Middle>();
        bus.on_with(limited(&limit), move |_: &Event<Outer>| own.starts().wait().map(drop));
        bus.on(|middle: &Event<Middle>| middle.0.wait().map(drop));
        bus.on_with(limited(&limit), |_: &Event<Inner>| thread::yield_now());
        let outer = bus.emit(Outer);
        started.recv().unwrap();
        let inner = bus.emit(Inner);
        tell.send(bus.emit(Middle(inner))).unwrap();
        outer.result().unwrap();
        at_rest(&bus);
    });
}

payloads!(Left, Right, Borrower, WantsLeft, WantsRight, Both(Event<Borrower>, Event<WantsRight>));

/// Left has its limit's place and lends it to the borrower; Right has the other one's. Each needs what stands in line for the place of the other,
/// but for as long as the borrower runs it might make room.
#[test]
fn a_circle_that_is_closed_by_a_borrower_that_leaves_is_told() {
    check(|| {
        let runtime = runtime();
        let bus = parallel(&runtime);
        let (left, right) = (Limit::new(1), Limit::new(1));
        let (own, left_started, tell_left) = told::<Both>();
        bus.on_with(limited(&left), move |_: &Event<Left>| waited(own.starts().wait().map(drop)));
        let (own, right_started, tell_right) = told::<WantsLeft>();
        bus.on_with(limited(&right), move |_: &Event<Right>| waited(own.starts().wait().map(drop)));
        bus.on(|both: &Event<Both>| waited(both.0.wait().map(drop)));
        bus.on(|both: &Event<Both>| waited(both.1.wait().map(drop)));
        bus.on_with(limited(&left), |_: &Event<Borrower>| (0..20).for_each(|_| thread::yield_now()));
        bus.on_with(limited(&left), |_: &Event<WantsLeft>| ());
        bus.on_with(limited(&right), |_: &Event<WantsRight>| ());
        let events = (bus.emit(Left), bus.emit(Right));
        left_started.recv().unwrap();
        right_started.recv().unwrap();
        let both = bus.emit(Both(bus.emit(Borrower), bus.emit(WantsRight)));
        tell_left.send(both).unwrap();
        tell_right.send(bus.emit(WantsLeft)).unwrap();
        events.0.result().unwrap();
        events.1.result().unwrap();
        at_rest(&bus);
    });
}
