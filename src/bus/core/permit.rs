//! A permit as a thing that can be taken, yielded and given back, wherever it lives: in a bus's `run` or in the runtime's `global`.

use crate::bus::core::BusCore;
use crate::event::{AnyEvent, DeliveryPhase, TurnKind};
use crate::runtime::{Job, PermitKind, RuntimeCore, Wakeup, hand_over};
use crate::sync::{Granted, Position, Rank, Semaphore, Ticket, Token};
use std::sync::Arc;

/// Which lock a permit lives under.
#[derive(Clone)]
pub(crate) enum Home {
    Bus(Arc<BusCore>),
    Runtime(Arc<RuntimeCore>),
}

impl BusCore {
    pub(crate) fn home(self: &Arc<Self>) -> Home {
        Home::Bus(Arc::clone(self))
    }

    /// Where the event permit of a turn lives.
    pub(crate) fn turn_home(self: &Arc<Self>, turn: TurnKind) -> Option<Home> {
        match turn {
            TurnKind::Free => None,
            TurnKind::Bus => Some(self.home()),
            TurnKind::Global => Some(Home::Runtime(Arc::clone(&self.runtime))),
        }
    }
}

#[derive(Clone)]
pub(crate) struct Permit {
    pub(crate) home: Home,
    pub(crate) kind: PermitKind,
}

/// What is asked of a permit: to take it, or to stand in its line.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    /// Where in the line.
    pub(crate) position: Position,
    pub(crate) token: Token,
    /// Who may lend it.
    pub(crate) under: Option<Token>,
    pub(crate) rank: Rank,
}

/// The token of a whole delivery.
pub(crate) fn delivery_token(event: &AnyEvent, delivery: usize) -> Token {
    Token { stamp: event.head().stamp(), part: (delivery as u64) << 48 }
}

/// The token of one attempt: a permit that the attempt before it held is not this one's.
pub(crate) fn attempt_token(event: &AnyEvent, delivery: usize, invocation: usize, attempt: u32) -> Token {
    let invocation = (invocation as u64 + 1) & 0xff_ffff;
    Token {
        stamp: event.head().stamp(),
        part: (delivery as u64) << 48 | invocation << 24 | u64::from(attempt) & 0xff_ffff,
    }
}

/// Still running, or about to: what may hold permits.
pub(crate) fn is_active(event: &AnyEvent, delivery: usize) -> bool {
    event.state().lock().deliveries.get(delivery).is_some_and(|d| d.phase == DeliveryPhase::Active)
}

impl Permit {
    pub(crate) fn is(&self, other: &Permit) -> bool {
        self.kind == other.kind
            && match (&self.home, &other.home) {
                (Home::Bus(a), Home::Bus(b)) => Arc::ptr_eq(a, b),
                (Home::Runtime(a), Home::Runtime(b)) => Arc::ptr_eq(a, b),
                _ => false,
            }
    }

    pub(crate) fn runtime(&self) -> &Arc<RuntimeCore> {
        match &self.home {
            Home::Bus(bus) => &bus.runtime,
            Home::Runtime(runtime) => runtime,
        }
    }

    /// One locked step, and what follows from it: turns that have come, and a loop that can go on.
    pub(crate) fn step<R>(&self, step: impl FnOnce(&mut Semaphore<Wakeup>) -> (R, Granted<Wakeup>)) -> R {
        match &self.home {
            Home::Bus(bus) => {
                let mut run = bus.run.lock();
                let (result, granted) = step(run.semaphore(self.kind));
                let wake = run.takes_loop_up();
                drop(run);
                hand_over(&bus.runtime.pool, granted);
                if wake {
                    bus.submit_loop();
                }
                result
            }
            Home::Runtime(runtime) => {
                let (result, granted) = step(runtime.global.lock().semaphore(self.kind));
                hand_over(&runtime.pool, granted);
                result
            }
        }
    }

    pub(crate) fn release(&self, token: Token) {
        self.step(|s| ((), s.release(token)));
    }

    /// Takes it if it can be had at once; `live` is asked under the lock.
    pub(crate) fn try_take(
        &self,
        position: Position,
        token: Token,
        under: Option<Token>,
        live: impl FnOnce() -> bool,
    ) -> bool {
        self.step(|s| (live() && s.try_take(position, token, under), Granted::new()))
    }

    /// Takes it, or leaves a job in line that runs when it has been taken. That one borrows from nobody: a lender lends to what runs on its
    /// own stack.
    pub(crate) fn take_or_queue(
        &self,
        request: Request,
        live: impl FnOnce() -> bool,
        job: impl FnOnce() -> Job,
    ) -> Taken {
        self.step(|s| {
            let Request { position, token, under, rank } = request;
            if !live() {
                return (Taken::Dead, Granted::new());
            }
            if s.try_take(position, token, under) {
                return (Taken::Now, Granted::new());
            }
            let granted = s.stand(position, Ticket { token, under: None, rank, turn: Wakeup::Job(job()) });
            (Taken::Later, granted)
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Now,
    Later,
    /// Whoever wanted it has been ended meanwhile.
    Dead,
}

/// Not claimed yet.
pub(crate) fn is_queued(event: &AnyEvent, delivery: usize) -> bool {
    event.state().lock().deliveries.get(delivery).is_some_and(|d| d.phase == DeliveryPhase::Queued)
}
