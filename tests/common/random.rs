//! Numbers from a seed, for programs that are made from one: the same seed, the same program. And smaller programs from one that fails.
#![allow(dead_code, reason = "every test file uses its own part of this module")]

use std::fmt;
use threadbus::{Event, EventBus, EventOptions, HandlerConcurrency, HandlerOptions, Payload};

/// xorshift64*
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        random.next();
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 33) % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// How much of each kind a program may have, beyond the one that it must. What a smaller program leaves out is drawn all the same, so the rest of it stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds([u64; Self::NAMES.len()]);

impl Bounds {
    const NAMES: [&str; 7] = ["buses", "handlers", "emitters", "emits", "depth", "actions", "disturbances"];
    pub const NONE: Bounds = Bounds([u64::MAX; Self::NAMES.len()]);

    /// From `THREADBUS_BOUNDS`, as a failure prints it.
    pub fn chosen() -> Bounds {
        let mut bounds = Bounds::NONE;
        let chosen = std::env::var("THREADBUS_BOUNDS").unwrap_or_default();
        for part in chosen.split_whitespace() {
            let (name, most) = part.split_once('=').unwrap_or_else(|| panic!("THREADBUS_BOUNDS: {part:?}"));
            let at =
                Self::NAMES.iter().position(|n| *n == name).unwrap_or_else(|| panic!("THREADBUS_BOUNDS: {name:?}"));
            bounds.0[at] = most.parse().unwrap_or_else(|_| panic!("THREADBUS_BOUNDS: {most:?}"));
        }
        bounds
    }

    /// Of what was drawn, so many at most.
    pub fn cut(&self, name: &str, drawn: u64) -> u64 {
        let at = Self::NAMES.iter().position(|n| *n == name).unwrap_or_else(|| panic!("no bound is called {name:?}"));
        drawn.min(self.0[at])
    }

    /// The smallest bounds, one kind after the other, under which it still `fails`.
    pub fn shrink(mut self, mut fails: impl FnMut(Bounds) -> bool) -> Bounds {
        for at in 0..self.0.len() {
            for most in 0..self.0[at].min(8) {
                let mut smaller = self;
                smaller.0[at] = most;
                if fails(smaller) {
                    self = smaller;
                    break;
                }
            }
        }
        self
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bounded = Self::NAMES.iter().zip(self.0).filter(|(_, most)| *most != u64::MAX);
        let words: Vec<_> = bounded.map(|(name, most)| format!("{name}={most}")).collect();
        f.write_str(&words.join(" "))
    }
}

/// An emit as all others, or at once.
pub type Emit<P> = fn(&EventBus, P, EventOptions) -> Event<P>;

/// How a program emits from outside of its handlers.
pub fn from_outside<P: Payload>(seed: u64) -> Emit<P> {
    if seed % 7 == 3 { EventBus::emit_now_with } else { EventBus::emit_with }
}

/// Whether the handlers of a program have modes of their own, some of them another one than their bus.
pub fn is_mixed(seed: u64) -> bool {
    seed % 5 == 1
}

/// The options of one handler of a program.
pub fn own_mode(seed: u64, handler: u64) -> HandlerOptions {
    let options = HandlerOptions::new();
    match (seed / 5 + 3 * handler) % 5 {
        _ if !is_mixed(seed) => options,
        0 => options.concurrency(HandlerConcurrency::Parallel),
        1 => options.concurrency(HandlerConcurrency::BusSerial),
        2 => options.concurrency(HandlerConcurrency::EventSerial),
        3 => options.concurrency(HandlerConcurrency::GlobalSerial),
        _ => options,
    }
}
