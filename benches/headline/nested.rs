//! S3: a handler that waits for children.

use crate::measure::{Rounds, median_piece, nanos_each};
use crate::stream::Tick;
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use threadbus::{Event, EventBus, Payload};
use uuid::Uuid;

const CHILDREN: usize = 1_000;
const PARENTS: usize = 20;

/// Returns the nanoseconds that a child took.
struct Parent;
impl Payload for Parent {
    type Output = f64;
}

/// S3. Measured inside the handler: what the parent costs is S2's matter.
pub fn children(rounds: &Rounds) {
    let bus = EventBus::new("S3");
    bus.on(|parent: &Event<Parent>| {
        let bus = parent.bus();
        nanos_each(CHILDREN, || {
            for n in 0..CHILDREN {
                bus.emit(Tick([n as u64; 8])).wait().expect("a child of a live handler");
            }
        })
    });
    bus.on(crate::stream::handle_tick);

    let by_hand = ByHand::new();
    let by_hand = || nanos_each(CHILDREN, || (0..CHILDREN).for_each(|n| by_hand.call(Tick([n as u64; 8]))));
    rounds.in_turns(
        "S3",
        || median_piece(PARENTS, || bus.emit(Parent).result().expect("one handler that succeeds")),
        || median_piece(PARENTS, by_hand),
    );
}

/// What an event needs at least, on one thread: three times, an id, memory, a call.
struct ByHand {
    handler: Handler,
    anchor: Instant,
    /// The wall clock at the anchor, so that one reading of the monotonic clock serves both.
    anchor_nanos: u64,
}

type Handler = Box<dyn Fn(&Record)>;

/// 256 bytes. Times in nanoseconds since 1970.
struct Record {
    payload: Tick,
    id: Uuid,
    created: u64,
    started: AtomicU64,
    completed: AtomicU64,
    _rest: [u64; 19],
}
const _: () = assert!(size_of::<Record>() == 256);

impl ByHand {
    fn new() -> ByHand {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        let handler: Handler = Box::new(|record| {
            black_box(record.payload.0[0]);
        });
        ByHand { handler, anchor: Instant::now(), anchor_nanos: wall.as_nanos() as u64 }
    }

    fn now(&self) -> u64 {
        self.anchor_nanos + self.anchor.elapsed().as_nanos() as u64
    }

    fn call(&self, payload: Tick) {
        let created = self.now();
        let record = Arc::new(Record {
            payload,
            id: new_id(created),
            created,
            started: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            _rest: [0; 19],
        });
        record.started.store(self.now(), Relaxed);
        (black_box(&self.handler))(&record);
        record.completed.store(self.now(), Relaxed);
        black_box((record.id, record.created));
        drop(black_box(record));
    }
}

/// A UUIDv7 from a clock reading and a generator of the thread's own.
fn new_id(stamp: u64) -> Uuid {
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0x9E37_79B9_7F4A_7C15) };
    }
    let mut bits = STATE.get();
    bits ^= bits >> 12;
    bits ^= bits << 25;
    bits ^= bits >> 27;
    STATE.set(bits);
    let high = (stamp / 1_000_000) << 16 | 0x7000 | (stamp % 1_000_000) >> 8;
    let low = 0b10 << 62 | (stamp & 0xff) << 54 | bits >> 10;
    Uuid::from_u64_pair(high, low)
}
