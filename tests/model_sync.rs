//! Bell, semaphore and cap under loom: the files of `src/sync` themselves, on every schedule and with every ordering that the language allows.
//! `RUSTFLAGS="--cfg threadbus_loom" cargo test --release --test model_sync`.
#![cfg(threadbus_loom)]
#![allow(dead_code, reason = "tests; the included files are used in part")]

#[path = "../src/sync/bell.rs"]
mod bell;
#[path = "../src/sync/cap.rs"]
mod cap;
#[path = "../src/sync/line.rs"]
mod line;
#[path = "../src/sys/plant.rs"]
mod plant;
#[path = "../src/sync/semaphore.rs"]
mod semaphore;
#[path = "../src/sync/shares.rs"]
mod shares;
#[path = "../src/sync/sweep.rs"]
mod sweep;

/// What the included files import, on loom's primitives.
mod sync {
    pub(crate) use crate::line::{Key, Line, Rank};
    pub(crate) use crate::semaphore::{Granted, Token};
    pub(crate) use crate::shares::Shares;
    pub(crate) use crate::sweep::Sweep;

    #[derive(Debug)]
    pub struct Spin;
    impl Spin {
        pub fn new() -> Self {
            Spin
        }
        /// Looks once.
        pub fn until(&self, _deadline: crate::sys::clock::Tick, ready: impl Fn() -> bool) -> bool {
            ready()
        }
    }
}

mod sys {
    pub(crate) use crate::plant::planted;

    pub mod clock {
        pub type Tick = u64;
        pub const NEVER: Tick = u64::MAX;
        pub fn instant(at: Tick) -> Option<std::time::Instant> {
            (at != NEVER).then(std::time::Instant::now)
        }
    }

    pub mod sync {
        pub use loom::sync::atomic;
        use std::ops::{Deref, DerefMut};
        use std::time::Instant;

        #[derive(Debug)]
        pub struct Mutex<T>(loom::sync::Mutex<T>);
        #[derive(Debug)]
        pub struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);
        impl<T> Mutex<T> {
            pub fn new(value: T) -> Self {
                Mutex(loom::sync::Mutex::new(value))
            }
            pub fn lock(&self) -> MutexGuard<'_, T> {
                MutexGuard(Some(self.0.lock().unwrap()))
            }
        }
        impl<T> Deref for MutexGuard<'_, T> {
            type Target = T;
            fn deref(&self) -> &T {
                self.0.as_ref().unwrap()
            }
        }
        impl<T> DerefMut for MutexGuard<'_, T> {
            fn deref_mut(&mut self) -> &mut T {
                self.0.as_mut().unwrap()
            }
        }

        pub struct WaitResult;
        impl WaitResult {
            pub fn timed_out(&self) -> bool {
                true
            }
        }
        #[derive(Debug)]
        pub struct Condvar(loom::sync::Condvar);
        impl Condvar {
            pub fn new() -> Self {
                Condvar(loom::sync::Condvar::new())
            }
            pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
                guard.0 = Some(self.0.wait(guard.0.take().unwrap()).unwrap());
            }
            /// The time is over at once.
            pub fn wait_until<T>(&self, _guard: &mut MutexGuard<'_, T>, _deadline: Instant) -> WaitResult {
                WaitResult
            }
            pub fn notify_one(&self) {
                self.0.notify_one();
            }
        }
    }
}

use bell::Bell;
use cap::Cap;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use loom::thread;
use semaphore::{Granted, Position, Semaphore, Ticket, WhileSetDown};
use sync::{Rank, Token};
use sys::clock::NEVER;
use sys::sync::Mutex;

fn token(stamp: u64) -> Token {
    Token { stamp, part: 0 }
}

#[test]
fn exhaustive_a_ring_is_never_lost() {
    loom::model(|| {
        // The news itself is relaxed: the bell orders it.
        let news = Arc::new((Bell::new(), AtomicBool::new(false), AtomicBool::new(false)));
        let (one, two) = (Arc::clone(&news), Arc::clone(&news));
        let first = thread::spawn(move || {
            one.1.store(true, Relaxed);
            one.0.ring();
        });
        let second = thread::spawn(move || {
            two.2.store(true, Relaxed);
            two.0.ring();
        });
        while !(news.1.load(Relaxed) && news.2.load(Relaxed)) {
            news.0.wait(NEVER);
        }
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn exhaustive_a_wait_takes_the_ring() {
    loom::model(|| {
        let news = Arc::new((Bell::new(), AtomicBool::new(false)));
        let (one, two) = (Arc::clone(&news), Arc::clone(&news));
        let first = thread::spawn(move || one.0.ring());
        news.0.wait(NEVER);
        first.join().unwrap();
        let second = thread::spawn(move || {
            two.1.store(true, Relaxed);
            two.0.ring();
        });
        news.0.wait(NEVER);
        assert!(news.1.load(Relaxed), "one ring ended two waits");
        second.join().unwrap();
    });
}

#[test]
fn exhaustive_a_ring_is_not_lost_to_a_deadline_nor_a_deadline_taken_for_one() {
    loom::model(|| {
        let news = Arc::new((Bell::new(), AtomicBool::new(false)));
        let other = Arc::clone(&news);
        let ringer = thread::spawn(move || {
            other.1.store(true, Relaxed);
            other.0.ring();
        });
        if !news.0.wait(0) {
            news.0.wait(NEVER);
        }
        assert!(news.1.load(Relaxed), "rung by nobody");
        ringer.join().unwrap();
    });
}

/// A permit, a bell for each token, and who is inside.
struct Room {
    permit: Mutex<Semaphore<usize>>,
    bells: [Bell; 3],
    inside: AtomicUsize,
    suspended: AtomicBool,
}

impl Room {
    fn new(kept: bool) -> Arc<Room> {
        let bells = [Bell::new(), Bell::new(), Bell::new()];
        let permit = Mutex::new(Semaphore::new(1, if kept { WhileSetDown::Kept } else { WhileSetDown::Passed }));
        Arc::new(Room { permit, bells, inside: AtomicUsize::new(0), suspended: AtomicBool::new(false) })
    }

    fn hand_over(&self, granted: Granted<usize>) {
        granted.into_iter().for_each(|who| self.bells[who].ring());
    }

    fn take(&self, who: usize, position: Position) {
        let own = token(who as u64 + 1);
        let granted = {
            let mut permit = self.permit.lock();
            if permit.try_take(position, own, None) {
                return;
            }
            permit.stand(position, Ticket { token: own, under: None, rank: Rank::NONE, turn: who })
        };
        self.hand_over(granted);
        while !self.permit.lock().holds(own) {
            self.bells[who].wait(NEVER);
        }
    }

    fn leave(&self, who: usize) {
        let granted = self.permit.lock().release(token(who as u64 + 1));
        self.hand_over(granted);
    }

    fn work(&self) {
        assert_eq!(self.inside.fetch_add(1, Relaxed), 0, "two hold one permit");
        assert!(!self.suspended.load(Relaxed), "somebody started in the middle of a wait");
        self.inside.fetch_sub(1, Relaxed);
    }
}

#[test]
fn exhaustive_a_permit_is_handed_from_one_to_the_next() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let room = Room::new(true);
        let others = [1, 2].map(|who| {
            let room = Arc::clone(&room);
            thread::spawn(move || {
                room.take(who, Position::Entry);
                room.work();
                room.leave(who);
            })
        });
        room.take(0, Position::Entry);
        room.work();
        room.leave(0);
        for other in others {
            other.join().unwrap();
        }
        assert!(room.permit.lock().is_quiet());
    });
}

#[test]
fn exhaustive_who_gives_a_turn_up_for_a_wait_takes_it_back_before_anything_starts() {
    loom::model(|| {
        let room = Room::new(true);
        let other = Arc::clone(&room);
        let starter = thread::spawn(move || {
            other.take(1, Position::Entry);
            other.work();
            other.leave(1);
        });
        room.take(0, Position::Entry);
        let granted = {
            let mut permit = room.permit.lock();
            room.suspended.store(true, Relaxed);
            permit.set_down(token(1))
        };
        room.hand_over(granted);
        room.take(0, Position::Front);
        room.suspended.store(false, Relaxed);
        room.leave(0);
        starter.join().unwrap();
        assert!(room.permit.lock().is_quiet());
    });
}

/// A cap of one, a bell for each token, and who is inside without waiting.
struct Under {
    cap: Mutex<Cap<usize>>,
    bells: [Bell; 3],
    inside: AtomicUsize,
}

impl Under {
    fn hand_over(&self, granted: Granted<usize>) {
        granted.into_iter().for_each(|who| self.bells[who].ring());
    }

    fn enter(&self, who: usize) {
        let own = token(who as u64);
        let granted = {
            let mut cap = self.cap.lock();
            if cap.try_take(own, &[]) {
                return;
            }
            cap.stand(own, Rank { bus: 0, level: 5, weights: None }, &[], who)
        };
        self.hand_over(granted);
        while !self.cap.lock().holds(own) {
            self.bells[who].wait(NEVER);
        }
    }

    fn work(&self) {
        assert_eq!(self.inside.fetch_add(1, Relaxed), 0, "two at once under a limit of one");
        self.inside.fetch_sub(1, Relaxed);
    }

    fn leave(&self, who: usize) {
        let granted = self.cap.lock().release(token(who as u64));
        self.hand_over(granted);
    }
}

#[test]
fn exhaustive_a_place_that_is_lent_comes_back() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let bells = [Bell::new(), Bell::new(), Bell::new()];
        let under = Arc::new(Under { cap: Mutex::new(Cap::new(1)), bells, inside: AtomicUsize::new(0) });
        let done = Arc::new(AtomicBool::new(false));
        under.enter(0);
        // 0 waits for 1; 2 has nothing to do with them.
        let others = [1, 2].map(|who| {
            let (under, done) = (Arc::clone(&under), Arc::clone(&done));
            thread::spawn(move || {
                under.enter(who);
                under.work();
                under.leave(who);
                if who == 1 {
                    done.store(true, Relaxed);
                    under.bells[0].ring();
                }
            })
        });
        while !done.load(Relaxed) {
            let (granted, came) = {
                let mut cap = under.cap.lock();
                let granted = cap.lend(token(0), |t| t.stamp == 1);
                (granted, cap.holds(token(1)))
            };
            under.hand_over(granted);
            // Until it stands in line there is nothing to lend to.
            if came {
                under.bells[0].wait(NEVER);
            } else {
                thread::yield_now();
            }
        }
        while !under.cap.lock().take_back(token(0), || 0) {
            under.bells[0].wait(NEVER);
        }
        under.work();
        under.leave(0);
        for other in others {
            other.join().unwrap();
        }
    });
}
