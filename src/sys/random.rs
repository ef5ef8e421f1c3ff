//! Random bits and the ids made of them.

use crate::sys::clock::{self, Stamp};
use std::cell::Cell;
use uuid::Uuid;

thread_local! {
    static STATE: Cell<u64> = Cell::new(seed());
}

fn seed() -> u64 {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    (high ^ low) | 1
}

/// 64 bits from a generator of the thread's own (xorshift64*), seeded by the system. Not for secrets.
pub(crate) fn bits() -> u64 {
    STATE
        .try_with(|state| {
            let mut x = state.get();
            x ^= x >> 12;
            x ^= x << 25;
            x ^= x >> 27;
            state.set(x);
            x.wrapping_mul(0x2545_F491_4F6C_DD1D)
        })
        .unwrap_or_else(|_| seed())
}

/// In `0.0..1.0`.
pub(crate) fn fraction() -> f64 {
    (bits() >> 11) as f64 / (1u64 << 53) as f64
}

/// A UUIDv7 whose order is the order of the stamps.
pub(crate) fn uuid_v7(stamp: Stamp) -> Uuid {
    at_time(clock::id_time(stamp))
}

/// Nanoseconds since 1970: milliseconds, then the rest of the nanoseconds, then random bits.
fn at_time(time: u64) -> Uuid {
    let millis = time / 1_000_000;
    let below = time % 1_000_000; // 20 bits
    let high = (millis << 16) | 0x7000 | (below >> 8);
    let low = (0b10 << 62) | ((below & 0xff) << 54) | (bits() >> 10);
    Uuid::from_u64_pair(high, low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_stamps_and_are_version_7() {
        let base = 1_763_000_000_123_456_789;
        let ids: Vec<_> = (0..1000).map(|n| at_time(base + n)).collect();
        assert!(ids.windows(2).all(|w| w[0] < w[1]));
        assert_eq!(ids[0].get_version_num(), 7);
        assert_eq!(ids[0].get_variant(), uuid::Variant::RFC4122);
        assert_eq!(ids[0].get_timestamp().map(|t| t.to_unix().0), Some(1_763_000_000));
    }

    #[test]
    fn fractions_stay_in_range() {
        assert!((0..1000).map(|_| fraction()).all(|f| (0.0..1.0).contains(&f)));
    }
}
