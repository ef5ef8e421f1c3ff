//! The permits that a thread has in its hand: given up for a wait, taken back after it, lent to what runs on top.

use crate::bus::core::BusCore;
use crate::bus::core::delivery::DeliveryRef;
use crate::bus::core::permit::{Permit, Taken, is_active};
use crate::bus::thread::frame::{Frame, Grip, Grips, Holding, Local, Under, local};
use crate::bus::thread::parking::Rested;
use crate::event::{ContextMap, RecordPhase};
use crate::runtime::{Needs, Serves, Wakeup, Worker};
use crate::sync::{Granted, Position, Rank, Ticket, Token};
use crate::sys::clock::NEVER;
use crate::sys::sync::atomic::Ordering;
use smallvec::SmallVec;
use std::sync::Arc;

/// Gives up all that this thread has in hand. Only what is still this thread's to give: whoever ended a frame has seen to its permits.
pub(crate) fn set_down_all() {
    set_down_all_but(&[]);
}

/// Gives up all that this thread has in hand but for some grips.
pub(crate) fn set_down_all_but(kept: &[usize]) {
    let grips: SmallVec<[(usize, Grip); 2]> = local(|local| {
        let held =
            local.hand.iter().enumerate().filter(|(at, grip)| grip.in_hand && !grip.attached && !kept.contains(at));
        held.map(|(at, grip)| (at, grip.clone())).collect()
    })
    .unwrap_or_default();
    for (at, grip) in grips {
        let frame = owner_of(&grip);
        grip.permit.step(|s| {
            let mut state = grip.event.state().lock();
            let Some(delivery) = state.deliveries.get_mut(grip.delivery) else { return ((), Granted::new()) };
            let Some(frame) = frame else { return ((), Granted::new()) };
            if !delivery.is_live(frame.invocation, frame.attempt) {
                return ((), Granted::new());
            }
            delivery.records[frame.invocation].has_set_down = true;
            delivery.has_set_down = true;
            let running = delivery.records.iter().any(|r| r.phase == RecordPhase::Started && !r.has_set_down);
            drop(state);
            ((), if grip.shared && running { Granted::new() } else { s.set_down(grip.token) })
        });
        local(|local| local.hand[at].in_hand = false);
    }
}

/// The frame of this thread that runs for the delivery a hold belongs to.
fn owner_of(grip: &Grip) -> Option<Frame> {
    local(|local| {
        let owns = |f: &&Frame| f.event.same(&grip.event) && f.delivery == grip.delivery;
        local.frames.iter().rev().find(owns).cloned()
    })
    .flatten()
}

/// The bus of a handler that this thread is attached to, and another thread runs.
#[cold]
pub(crate) fn attached_to(worker: &Worker) -> Option<Arc<BusCore>> {
    let frames = local(|local| local.frames.clone()).unwrap_or_default();
    let elsewhere = |frame: &Frame| {
        let state = frame.event.state().lock();
        let record = state.deliveries.get(frame.delivery).and_then(|d| d.records.get(frame.invocation));
        record.is_some_and(|record| record.worker != worker.id)
    };
    frames.into_iter().find(elsewhere).map(|frame| frame.bus)
}

/// Takes back what `frame` runs under. False if the frame was ended meanwhile; then nothing is touched.
pub(crate) fn take_back(worker: &Arc<Worker>, frame: &Frame) -> bool {
    for &at in frame.under() {
        let Some(grip) = local(|local| local.hand.get(at).cloned()).flatten() else { return false };
        if grip.in_hand {
            continue;
        }
        let Some(owner) = owner_of(&grip) else { return false };
        let live = || frame.is_live() && (owner.is(&frame.event, frame.delivery, frame.invocation) || owner.is_live());
        if !stand_again(worker, at, &grip, &owner, live) {
            if grip.shared {
                // Its turn may have come for the delivery just when this handler was given up.
                frame.bus.delivery(&grip.event, grip.delivery).set_down_if_all_wait();
            }
            return false;
        }
    }
    frame.is_live()
}

/// What this thread has in hand now, for [`retake`].
pub(crate) fn all_in_hand() -> Grips {
    local(|local| (0..local.hand.len()).filter(|&at| local.hand[at].in_hand).collect()).unwrap_or_default()
}

/// Something ran on top, and may have given up what this thread had in hand. What belongs to an ended handler stays where it is.
pub(crate) fn retake(worker: &Arc<Worker>, had: &[usize]) {
    for &at in had {
        let Some(grip) = local(|local| local.hand.get(at).cloned()).flatten() else { return };
        if grip.in_hand {
            continue;
        }
        match owner_of(&grip) {
            Some(owner) => drop(stand_again(worker, at, &grip, &owner, || owner.is_live())),
            // Nobody's to give up yet.
            None => drop(local(|local| local.hand[at].in_hand = true)),
        }
    }
}

/// Takes back one hold that was given up in a wait of its owner, or of something above it.
fn stand_again(worker: &Arc<Worker>, at: usize, grip: &Grip, owner: &Frame, live: impl Fn() -> bool) -> bool {
    let lender = grip.event.state().lock().deliveries.get(grip.delivery).and_then(|d| d.lender());
    if !grip.permit.stand(worker, Position::Front, grip.token, lender, live) {
        if !is_active(&grip.event, grip.delivery) {
            // The turn may have come after the delivery's end, which found nothing to release.
            grip.permit.release(grip.token);
        }
        return false;
    }
    if let Some(delivery) = grip.event.state().lock().deliveries.get_mut(grip.delivery)
        && delivery.is_live(owner.invocation, owner.attempt)
    {
        delivery.records[owner.invocation].has_set_down = false;
    }
    local(|local| local.hand[at].in_hand = true);
    true
}

/// Where in the hand a permit lies that this thread may lend to what it runs on top. Not what another thread has borrowed: a handler of a
/// parallel child that this one went on without.
pub(crate) fn lendable(permit: &Permit) -> Option<usize> {
    let (at, token) = local(|local| {
        let at = local.hand.iter().rposition(|h| h.in_hand && !h.shared && h.permit.is(permit))?;
        Some((at, local.hand[at].token))
    })
    .flatten()?;
    permit.step(|s| (s.lends(token), Granted::new())).then_some(at)
}

/// Where in the hand a permit lies, lent or not.
pub(crate) fn held(permit: &Permit) -> Option<usize> {
    local(|local| local.hand.iter().rposition(|h| h.in_hand && h.permit.is(permit))).flatten()
}

/// The token of this thread's that a permit can be borrowed from, under a lock, as long as it holds.
pub(crate) fn lender(permit: &Permit) -> Option<Token> {
    local(|local| local.hand.iter().rev().find(|h| h.permit.is(permit)).map(|h| h.token)).flatten()
}

impl DeliveryRef<'_> {
    /// A permit that it, or one attempt of it, holds by that token and that only this thread runs under.
    pub(crate) fn hold_by(self, permit: Permit, token: Token) -> Grip {
        let (event, delivery) = (self.event.clone(), self.index);
        Grip { permit, token, in_hand: true, shared: false, attached: false, event, delivery }
    }
}

/// Returns the place.
pub(crate) fn put_in_hand(grip: Grip) -> usize {
    local(|local| {
        local.hand.push(grip);
        local.hand.len() - 1
    })
    .unwrap_or(0)
}

/// Puts all that a delivery holds into the hand.
pub(crate) fn hold(holding: Holding, of: DeliveryRef<'_>) -> Grips {
    local(|local| {
        let first = local.hand.len();
        local.hand.extend(holding.holds(of.bus, of.event, of.index));
        (first..local.hand.len()).collect()
    })
    .unwrap_or_default()
}

/// How much the hand holds now, to be cut back to later.
pub(crate) fn hand_len() -> usize {
    local(|local| local.hand.len()).unwrap_or(0)
}

/// How much this thread has in the hand, where it is inside nothing and may block.
pub(crate) fn hand_len_outside() -> Option<usize> {
    let is_free = |local: &Local| local.frames.is_empty() && local.forbidden.is_empty() && !local.is_in_callback();
    local(|local| is_free(local).then_some(local.hand.len())).flatten()
}

/// Forgets what was put in the hand since; who holds it by token is another question.
#[inline]
pub(crate) fn cut_hand(len: usize) {
    if local(|local| local.hand.len() > len).unwrap_or(false) {
        cut(len);
    }
}

#[cold]
fn cut(len: usize) {
    let gone = local(|local| local.hand.split_off(len));
    drop(gone);
}

/// Makes this thread count as inside a handler that runs on another one, until the guard goes.
pub(crate) fn attach(frame: &Frame) -> Attached {
    let manner = frame.event.state().lock().deliveries.get(frame.delivery).map(|d| d.manner);
    let holding = manner.map(|manner| Holding { shared: true, ..Holding::of(manner) });
    let grips = holding.into_iter().flat_map(|holding| holding.holds(&frame.bus, &frame.event, frame.delivery));
    let grips = grips.map(|grip| Grip { attached: true, ..grip });
    let (hand, context) = local(|local| {
        let hand = local.hand.len();
        local.hand.extend(grips);
        let under = Under::Hand((hand..local.hand.len()).collect());
        local.frames.push(Frame { under, limited: false, lends: frame.limited, ..frame.clone() });
        (hand, std::mem::replace(&mut local.context, frame.event.head().context().cloned()))
    })
    .unwrap_or_default();
    Attached { hand, context }
}

/// See [`attach`]. Gone also when the body panics.
pub(crate) struct Attached {
    hand: usize,
    context: Option<Arc<ContextMap>>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        let gone = local(|local| {
            let context = std::mem::replace(&mut local.context, self.context.take());
            (local.pop(), context)
        });
        cut_hand(self.hand);
        drop(gone);
    }
}

impl Permit {
    /// Stands in line on the calling thread until the permit is there, or `live` is not any more.
    pub(crate) fn stand(
        &self,
        worker: &Arc<Worker>,
        position: Position,
        token: Token,
        under: Option<Token>,
        live: impl Fn() -> bool,
    ) -> bool {
        let (mut parked, mut in_vain) = (false, false);
        loop {
            let taken = self.step(|s| {
                let mine = |turn: &Wakeup| matches!(turn, Wakeup::Ring(bell) if Arc::ptr_eq(bell, &worker.bell));
                if !live() {
                    return (Taken::Dead, s.forget_ticket(token, mine));
                }
                let in_line = s.in_line(token, mine);
                if in_line {
                    return (Taken::Later, Granted::new());
                }
                if s.try_take(position, token, under) {
                    return (Taken::Now, Granted::new());
                }
                // The first time; or a sibling's end took all tickets of the token out of the line.
                let ticket = Ticket { token, under, rank: Rank::NONE, turn: Wakeup::Ring(Arc::clone(&worker.bell)) };
                (Taken::Later, s.stand(position, ticket))
            });
            match taken {
                Taken::Now => break,
                Taken::Dead => {
                    if parked {
                        self.runtime().pool.resume(worker);
                    }
                    return false;
                }
                Taken::Later => {
                    if !parked {
                        worker.serves.store(true, Ordering::Relaxed);
                        self.runtime().pool.suspend(worker);
                        parked = true;
                    }
                    if !in_vain && let Some(served) = self.serves_meanwhile(worker, token) {
                        in_vain = !served;
                        continue;
                    }
                    in_vain = false;
                    worker.park(NEVER);
                }
            }
        }
        if parked {
            self.runtime().pool.resume(worker);
        }
        true
    }

    /// A thread in line runs what others wait for and only it can run, since that may be who has the permit. It leaves the line first, so
    /// that the permit does not come to a thread that is busy with something else, which may need it too. `None`: there is nothing of the
    /// kind, and it is in line as before; else whether anything ran.
    #[cold]
    fn serves_meanwhile(&self, worker: &Arc<Worker>, token: Token) -> Option<bool> {
        let runtime = self.runtime();
        let pumps = worker.has_pumps() && worker.pump_is_awaited();
        if pumps && worker.lacks_stack_to_serve() {
            worker.give_back_turns();
            return None;
        }
        if !pumps && !runtime.pool.is_starved() {
            return None;
        }
        let mine = |turn: &Wakeup| matches!(turn, Wakeup::Ring(bell) if Arc::ptr_eq(bell, &worker.bell));
        let came = self.step(|s| {
            let granted = s.forget_ticket(token, mine);
            (s.holds(token), granted)
        });
        if came {
            return Some(true);
        }
        let had = all_in_hand();
        let needs = || {
            let holders: Vec<Token> = self.step(|s| (s.holders().collect(), Granted::new()));
            Needs {
                events: holders.iter().map(|holder| holder.stamp).collect(),
                buses: BusCore::loops_among(&holders, runtime),
                last_resort: true,
                ..Needs::default()
            }
        };
        let served =
            pumps && worker.serve(Serves::Awaited) || worker.serve_if_starved(runtime, needs) == Rested::Served;
        if served {
            retake(worker, &had);
        }
        Some(served)
    }
}
