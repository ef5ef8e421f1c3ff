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
    at_time(clock::id_time(stamp), bits())
}

/// A UUIDv7 of nanoseconds since 1970: milliseconds, then the rest of the nanoseconds, then the upper 54 of the bits.
fn at_time(time: u64, bits: u64) -> Uuid {
    let millis = time / 1_000_000;
    let below = time % 1_000_000; // 20 bits
    let high = (millis << 16) | 0x7000 | (below >> 8);
    let low = (0b10 << 62) | ((below & 0xff) << 54) | (bits >> 10);
    Uuid::from_u64_pair(high, low)
}

/// Of an id that is no such UUIDv7: any number.
#[inline]
pub(crate) fn time_of(id: Uuid) -> u64 {
    let (high, low) = id.as_u64_pair();
    let below = (high & 0xfff) << 8 | (low >> 54) & 0xff;
    (high >> 16).wrapping_mul(1_000_000).wrapping_add(below)
}

/// Makes the ids of one bus, and knows them again without remembering any: their last 54 bits follow from their time and from this.
#[derive(Debug)]
pub(crate) struct IdMaker {
    keys: [u64; 2],
}

impl IdMaker {
    /// Asks the system for its keys, since the child of a fork goes on with its parent's generator.
    pub(crate) fn new() -> Self {
        let (first, second) = Uuid::new_v4().as_u64_pair();
        IdMaker { keys: [first, second | 1] }
    }

    /// A UUIDv7 whose order is the order of the stamps.
    #[inline]
    pub(crate) fn make(&self, stamp: Stamp) -> Uuid {
        self.at_time(clock::id_time(stamp))
    }

    /// Whether it has made that id. It takes one of 2^54 ids of others for its own.
    pub(crate) fn has_made(&self, id: Uuid) -> bool {
        self.at_time(time_of(id)) == id
    }

    #[inline]
    fn at_time(&self, time: u64) -> Uuid {
        let mixed = (time ^ self.keys[0]).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(self.keys[1]);
        at_time(time, mixed ^ (mixed >> 32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_stamps_and_are_version_7() {
        let base = 1_763_000_000_123_456_789;
        let ids: Vec<_> = (0..1000).map(|n| at_time(base + n, bits())).collect();
        assert!(ids.windows(2).all(|w| w[0] < w[1]));
        assert!((0..1000).all(|n| time_of(ids[n as usize]) == base + n));
        assert_eq!(ids[0].get_version_num(), 7);
        assert_eq!(ids[0].get_variant(), uuid::Variant::RFC4122);
        assert_eq!(ids[0].get_timestamp().map(|t| t.to_unix().0), Some(1_763_000_000));
    }

    #[test]
    fn a_maker_knows_its_own_ids_and_no_others() {
        let (one, two) = (IdMaker::new(), IdMaker::new());
        let base = 1_763_000_000_123_456_789;
        let times = (0..100_000).map(|n| base + n).chain((0..1000).map(|n| n << 44));
        for time in times {
            let id = one.at_time(time);
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
            assert!(one.has_made(id) && !two.has_made(id), "{id}");
            let (high, low) = id.as_u64_pair();
            let changed = (0..64).flat_map(|bit| [(high ^ 1 << bit, low), (high, low ^ 1 << bit)]);
            assert!(
                time % 97 > 0 || changed.into_iter().all(|(high, low)| !one.has_made(Uuid::from_u64_pair(high, low)))
            );
        }
        let others = [Uuid::nil(), Uuid::max(), Uuid::new_v4(), uuid_v7(7), at_time(base, 0), at_time(base, u64::MAX)];
        assert!(others.iter().all(|id| !one.has_made(*id)));
    }

    /// As random as what others make at the same time must be: each bit is set in half of them, and changes with the next in half of them.
    #[test]
    fn the_last_bits_differ_as_if_they_were_random() {
        let base = 1_763_000_000_123_456_789;
        for maker in std::iter::repeat_with(IdMaker::new).take(20) {
            let lows: Vec<_> = (0..4000).map(|n| maker.at_time(base + n).as_u64_pair().1).collect();
            for bit in 0..54 {
                let set = lows.iter().filter(|low| *low >> bit & 1 == 1).count();
                let turned = lows.windows(2).filter(|w| (w[0] ^ w[1]) >> bit & 1 == 1).count();
                assert!((1500..2500).contains(&set) && (1500..2500).contains(&turned), "bit {bit}: {set}, {turned}");
            }
        }
    }

    #[test]
    fn fractions_stay_in_range() {
        assert!((0..1000).map(|_| fraction()).all(|f| (0.0..1.0).contains(&f)));
    }
}
