//! Each peer with one trivial handler, as its documentation sets it up, driven by threads that know no async.

use crate::floor::{Latch, Runner};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicUsize,
    Ordering::{AcqRel, Release},
};

/// Something that takes events. Both run to the end of the handlers.
pub struct Peer {
    pub name: &'static str,
    /// So many events, then idle.
    pub stream: Box<dyn Fn(usize)>,
    pub round_trip: Box<dyn Fn(u64)>,
}

/// The floor first.
pub fn all() -> Vec<Peer> {
    let [on_its_thread, on_this_thread] = threadbus();
    vec![crossbeam(), on_its_thread, qubit_event_bus(), kameo(), actix(), on_this_thread, signals2()]
}

/// 64 bytes.
#[derive(Clone)]
struct Tick([u64; 8]);
impl threadbus::Payload for Tick {
    type Output = ();
}
impl actix::Message for Tick {
    type Result = ();
}

fn tick(n: impl TryInto<u64>) -> Tick {
    Tick([n.try_into().unwrap_or(0); 8])
}

fn handle(tick: &Tick) {
    black_box(tick.0[0]);
}

fn crossbeam() -> Peer {
    let runner = Arc::new(Runner::new());
    let reply = Latch::new();
    let answer = {
        let (runner, reply) = (Arc::clone(&runner), Arc::clone(&reply));
        move |tick: Tick| {
            let open = Arc::clone(&reply);
            runner.run(move || {
                handle(&tick);
                open.open();
            });
            reply.pass();
        }
    };
    let last = answer.clone();
    Peer {
        name: "crossbeam and a Condvar, by hand",
        stream: Box::new(move |events| {
            for n in 1..events {
                let tick = tick(n);
                runner.run(move || handle(&tick));
            }
            last(tick(events));
        }),
        round_trip: Box::new(move |n| answer(tick(n))),
    }
}

fn threadbus() -> [Peer; 2] {
    use threadbus::{Event, EventBus};

    let bus = EventBus::new("peers");
    bus.on(|event: &Event<Tick>| handle(event));
    let [streaming, waiting, inline, inline_waiting] = [(); 4].map(|()| bus.clone());
    [
        Peer {
            name: "threadbus",
            stream: Box::new(move |events| {
                (0..events).for_each(|n| drop(streaming.emit(tick(n))));
                streaming.wait_until_idle().expect("outside of handlers");
            }),
            round_trip: Box::new(move |n| drop(waiting.emit(tick(n)).wait().expect("a live bus"))),
        },
        Peer {
            name: "threadbus emit_now (this thread)",
            stream: Box::new(move |events| (0..events).for_each(|n| drop(inline.emit_now(tick(n))))),
            round_trip: Box::new(move |n| drop(inline_waiting.emit_now(tick(n)))),
        },
    ]
}

/// Slots run on the emitting thread: there is nothing to hand over and nothing to wait for.
fn signals2() -> Peer {
    use signals2::{Connect1, Emit1, Signal};

    let signal: Signal<(Tick,)> = Signal::new();
    signal.connect(|tick: Tick| handle(&tick));
    let streaming = signal.clone();
    Peer {
        name: "signals2 (this thread)",
        stream: Box::new(move |events| {
            (0..events).for_each(|n| streaming.emit(tick(n)).expect("one slot"));
        }),
        round_trip: Box::new(move |n| signal.emit(tick(n)).expect("one slot")),
    }
}

/// The local provider, with room for all events: by default it refuses what goes beyond 1,024. Its handlers say themselves when
/// all is done, since `wait_for_idle` takes a tenth of a second.
fn qubit_event_bus() -> Peer {
    use qubit_event_bus::EventBus;
    use qubit_event_bus::local::LocalEventBusConfig;
    use qubit_event_bus::model::{AdmissionOutcome, PublishRequest, SubscribeRequest, Topic};

    let room = 2 * crate::EVENTS;
    let config = LocalEventBusConfig::new().queue_capacity(room).max_total_outstanding(room);
    let bus = EventBus::local(config).expect("valid options");
    let topic = Topic::<Tick>::new("tick").expect("a valid name");
    let request = SubscribeRequest::new("handler", topic.clone()).expect("a valid name");
    let (left, done) = (Arc::new(AtomicUsize::new(0)), Latch::new());
    let subscription = {
        let (left, done) = (Arc::clone(&left), Arc::clone(&done));
        let handler = move |tick: &Tick| {
            handle(tick);
            if left.fetch_sub(1, AcqRel) == 1 {
                done.open();
            }
        };
        bus.subscribe(request, move |delivery| handler(delivery.payload())).expect("a live bus")
    };
    // Dropping it would not cancel it, but its documentation asks to keep it.
    std::mem::forget(subscription);
    let publish = move |events: usize| {
        left.store(events, Release);
        for n in 0..events {
            let request = PublishRequest::new(topic.clone(), tick(n)).expect("a valid request");
            let receipt = bus.publish(request).expect("a live bus");
            assert!(matches!(receipt.admission_outcome(), AdmissionOutcome::Accepted(_)));
        }
        done.pass();
    };
    let publish_one = publish.clone();
    Peer { name: "qubit-event-bus, local", stream: Box::new(publish), round_trip: Box::new(move |_| publish_one(1)) }
}

/// An actor on a thread of its own with an unbounded mailbox, told and asked through the blocking calls.
fn kameo() -> Peer {
    use kameo::actor::{Actor, ActorRef, Spawn};
    use kameo::error::Infallible;
    use kameo::mailbox;
    use kameo::message::{Context, Message};

    struct Handler;
    impl Actor for Handler {
        type Args = Self;
        type Error = Infallible;
        async fn on_start(state: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
            Ok(state)
        }
    }
    impl Message<Tick> for Handler {
        type Reply = ();
        async fn handle(&mut self, tick: Tick, _: &mut Context<Self, ()>) {
            handle(&tick);
        }
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let actor = {
        let _inside = runtime.enter();
        Handler::spawn_in_thread_with_mailbox(Handler, mailbox::unbounded())
    };
    // The actor lives in it, to the end of this program.
    std::mem::forget(runtime);
    let asked = actor.clone();
    Peer {
        name: "kameo, blocking calls",
        stream: Box::new(move |events| {
            (1..events).for_each(|n| actor.tell(tick(n)).blocking_send().expect("a live actor"));
            actor.ask(tick(events)).blocking_send().expect("a live actor");
        }),
        round_trip: Box::new(move |n| asked.ask(tick(n)).blocking_send().expect("a live actor")),
    }
}

/// An actor in a system on a thread of its own, sent to from outside; its futures are waited for by parking.
fn actix() -> Peer {
    use actix::{Actor, Addr, Context, Handler, Message, System};
    use futures_executor::block_on;

    /// The last of many, since a request to a full mailbox is not queued behind what is in it.
    struct Last(Arc<Latch>);
    impl Message for Last {
        type Result = ();
    }
    struct Ticking;
    impl Actor for Ticking {
        type Context = Context<Self>;
    }
    impl Handler<Tick> for Ticking {
        type Result = ();
        fn handle(&mut self, tick: Tick, _: &mut Context<Self>) {
            handle(&tick);
        }
    }
    impl Handler<Last> for Ticking {
        type Result = ();
        fn handle(&mut self, last: Last, _: &mut Context<Self>) {
            last.0.open();
        }
    }
    let (started, address) = crossbeam_channel::bounded::<Addr<Ticking>>(1);
    std::thread::spawn(move || {
        let system = System::new();
        let address = system.block_on(async { Ticking.start() });
        started.send(address).expect("somebody waits for it");
        system.run().expect("a system that is not stopped");
    });
    let address = address.recv().expect("a started system");
    let asked = address.clone();
    Peer {
        name: "actix, block_on",
        stream: Box::new(move |events| {
            // Beyond the mailbox's bound, as an unbounded channel.
            (0..events).for_each(|n| address.do_send(tick(n)));
            let done = Latch::new();
            address.do_send(Last(Arc::clone(&done)));
            done.pass();
        }),
        round_trip: Box::new(move |n| block_on(asked.send(tick(n))).expect("a live actor")),
    }
}
