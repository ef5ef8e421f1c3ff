//! What a thread does shortly before it parks: yields and spins, as long as that has been worth it.

use crate::sys::clock::{self, NEVER, Tick};
use crate::sys::sync::atomic::{AtomicU32, Ordering::Relaxed};
use crate::sys::thread;

/// About 3 µs of looking. Longer spins pay only on an otherwise empty machine, and cost dearly on a busy one.
const LOOKS: u32 = 400;
/// After so many misses in a row a thread stops trying, but for one time in `RETRY`.
const MISSES: u32 = 8;
const RETRY: u32 = 64;

/// The longest that another thread may keep the core: with a deadline that is nearer, the waiter does not give way. In nanoseconds.
const SLICE: Tick = 20_000_000;

/// How often the waiter lets other threads run, where only one can run at a time: one of them may be the one that it waits for.
const YIELDS: u32 = 8;

/// How often in a row something was not worth it.
#[derive(Debug)]
struct Misses(AtomicU32);

impl Misses {
    const fn new() -> Self {
        Misses(AtomicU32::new(0))
    }

    /// True if it is worth a try.
    fn may_try(&self) -> bool {
        let misses = self.0.load(Relaxed);
        let tries = misses < MISSES || misses.is_multiple_of(RETRY);
        if !tries {
            self.miss();
        }
        tries
    }

    fn miss(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1).max(1), Relaxed);
    }

    fn hit(&self) {
        self.0.store(0, Relaxed);
    }
}

/// Remembers whether yielding and spinning have been worth it lately. Where only one thread can run at a time, the waiter yields instead of
/// spinning. Elsewhere it yields first, since the thread that it waits for may have been put on this very core: spinning would keep that thread
/// from running, and parking would have that thread wake this one each time.
#[derive(Debug)]
pub(crate) struct Spin {
    looks: Misses,
    yields: Misses,
}

impl Spin {
    pub(crate) fn new() -> Self {
        Spin { looks: Misses::new(), yields: Misses::new() }
    }

    /// True as soon as `ready` is; false when it is time to park. `deadline`: when the waiter must be back; another thread that is given the
    /// core may keep it for some milliseconds.
    pub(crate) fn until(&self, deadline: Tick, ready: impl Fn() -> bool) -> bool {
        if cfg!(threadbus_shuttle) {
            return false;
        }
        let is_far = || deadline == NEVER || deadline > clock::now() + SLICE;
        if thread::cores() > 1 && !ready() && is_far() && self.yields.may_try() && thread::give_way() {
            if ready() {
                self.yields.hit();
                return true;
            }
            self.yields.miss();
        }
        if !self.looks.may_try() {
            return false;
        }
        let (looks, between): (u32, fn() -> bool) =
            if thread::cores() < 2 { (YIELDS, thread::give_way) } else { (LOOKS, look_on) };
        for _ in 0..looks {
            if ready() {
                self.looks.hit();
                return true;
            }
            if !between() {
                break;
            }
        }
        self.looks.miss();
        false
    }
}

fn look_on() -> bool {
    std::hint::spin_loop();
    true
}
