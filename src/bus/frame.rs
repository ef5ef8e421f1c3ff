//! What a thread carries while it runs handlers: its frames, and the permits it has in hand.

use crate::bus::core::BusCore;
use crate::bus::permit::{Home, Permit, delivery_token};
use crate::event::{AnyEvent, ContextMap, HandlerEntry, RecordPhase};
use crate::runtime::{PermitKind, Worker};
use crate::sync::{Granted, Place, Token};
use crate::sys::clock::{NEVER, Tick};
use crate::sys::thread;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::sync::Arc;

/// One handler on this thread's stack.
#[derive(Clone)]
pub(crate) struct Frame {
    pub(crate) event: AnyEvent,
    pub(crate) bus: Arc<BusCore>,
    pub(crate) delivery: usize,
    pub(crate) invocation: usize,
    pub(crate) attempt: u32,
    /// The least of its own, its event's and those of the frames below.
    pub(crate) deadline: Tick,
    pub(crate) entry: Arc<HandlerEntry>,
    /// What it runs under: places in the hand.
    pub(crate) under: SmallVec<[usize; 2]>,
}

impl Frame {
    /// Not timed out, not cancelled: what it does still counts.
    pub(crate) fn is_live(&self) -> bool {
        self.event
            .state()
            .lock()
            .deliveries
            .get(self.delivery)
            .is_some_and(|d| d.is_live(self.invocation, self.attempt))
    }

    fn is(&self, event: &AnyEvent, delivery: usize, invocation: usize) -> bool {
        self.event.same(event) && self.delivery == delivery && self.invocation == invocation
    }
}

/// A permit that a frame of this thread holds, or has given up for a wait.
#[derive(Clone)]
pub(crate) struct Hold {
    pub(crate) permit: Permit,
    pub(crate) token: Token,
    pub(crate) in_hand: bool,
    /// Handlers of the same delivery on other threads run under it too.
    pub(crate) shared: bool,
    /// Held by a handler on another thread, which this one only helps: lent from here, but never given up.
    pub(crate) attached: bool,
    /// The delivery it belongs to.
    pub(crate) event: AnyEvent,
    pub(crate) delivery: usize,
}

#[derive(Default)]
pub(crate) struct Local {
    pub(crate) frames: Vec<Frame>,
    pub(crate) hand: Vec<Hold>,
    pub(crate) context: Option<Arc<ContextMap>>,
    /// Inside a callback of the user's that is not a handler.
    pub(crate) callbacks: u32,
}

thread::local! {
    static LOCAL: RefCell<Local> = RefCell::new(Local::default());
}

/// Looks at what the thread carries. `body` must not run user code nor drop what users gave. `None` while the thread ends.
pub(crate) fn local<R>(body: impl FnOnce(&mut Local) -> R) -> Option<R> {
    LOCAL.try_with(|local| body(&mut local.borrow_mut())).ok()
}

/// The handler that runs on this thread.
pub(crate) fn top() -> Option<Frame> {
    local(|local| local.frames.last().cloned()).flatten()
}

/// Inside a middleware, filter, hook or tracker, where a blocking call could never be right.
pub(crate) fn in_callback() -> bool {
    local(|local| local.callbacks > 0).unwrap_or(false)
}

/// Runs a callback of the user's that is not a handler. A panic in it becomes its text.
pub(crate) fn callback<R>(body: impl FnOnce() -> R) -> Result<R, String> {
    local(|local| local.callbacks += 1);
    let result = crate::sys::unwind::catch(body);
    local(|local| local.callbacks -= 1);
    result
}

/// Gives up all that this thread has in hand. Only what is still this thread's to give: whoever ended a frame has seen to its permits.
pub(crate) fn set_down_all() {
    set_down_all_but(&[]);
}

/// The same, but for some places in the hand.
pub(crate) fn set_down_all_but(kept: &[usize]) {
    let holds: SmallVec<[(usize, Hold); 2]> = local(|local| {
        let held =
            local.hand.iter().enumerate().filter(|(at, hold)| hold.in_hand && !hold.attached && !kept.contains(at));
        held.map(|(at, hold)| (at, hold.clone())).collect()
    })
    .unwrap_or_default();
    for (at, hold) in holds {
        let frame = owner_of(&hold);
        hold.permit.step(|s| {
            let mut state = hold.event.state().lock();
            let Some(delivery) = state.deliveries.get_mut(hold.delivery) else { return ((), Granted::new()) };
            let Some(frame) = frame else { return ((), Granted::new()) };
            if !delivery.is_live(frame.invocation, frame.attempt) {
                return ((), Granted::new());
            }
            delivery.records[frame.invocation].sitting = true;
            let running = delivery.records.iter().any(|r| r.phase == RecordPhase::Started && !r.sitting);
            drop(state);
            ((), if hold.shared && running { Granted::new() } else { s.set_down(hold.token) })
        });
        local(|local| local.hand[at].in_hand = false);
    }
}

/// The frame of this thread that runs for the delivery a hold belongs to.
fn owner_of(hold: &Hold) -> Option<Frame> {
    local(|local| {
        let owns = |f: &&Frame| f.event.same(&hold.event) && f.delivery == hold.delivery;
        local.frames.iter().rev().find(owns).cloned()
    })
    .flatten()
}

/// Takes back what `frame` runs under. False if the frame was ended meanwhile; then nothing is touched.
pub(crate) fn take_back(worker: &Arc<Worker>, frame: &Frame) -> bool {
    for &at in &frame.under {
        let Some(hold) = local(|local| local.hand.get(at).cloned()).flatten() else { return false };
        if hold.in_hand {
            continue;
        }
        let Some(owner) = owner_of(&hold) else { return false };
        let live = || frame.is_live() && (owner.is(&frame.event, frame.delivery, frame.invocation) || owner.is_live());
        let lender = hold.event.state().lock().deliveries.get(hold.delivery).and_then(|d| d.lender);
        if !hold.permit.stand(worker, Place::Front, hold.token, lender, live) {
            if hold.shared {
                // Its turn may have come for the delivery just when this handler was given up.
                crate::bus::ending::give_up_if_all_sit(&frame.bus, &hold.event, hold.delivery);
            }
            return false;
        }
        if let Some(delivery) = hold.event.state().lock().deliveries.get_mut(hold.delivery)
            && delivery.is_live(owner.invocation, owner.attempt)
        {
            delivery.records[owner.invocation].sitting = false;
        }
        local(|local| local.hand[at].in_hand = true);
    }
    frame.is_live()
}

/// Where in the hand a permit lies that this thread may lend to what it runs on top, without any lock.
pub(crate) fn lendable(permit: &Permit) -> Option<usize> {
    local(|local| local.hand.iter().rposition(|h| h.in_hand && !h.shared && h.permit.is(permit))).flatten()
}

/// Where in the hand a permit lies, lent or not.
pub(crate) fn held(permit: &Permit) -> Option<usize> {
    local(|local| local.hand.iter().rposition(|h| h.in_hand && h.permit.is(permit))).flatten()
}

/// The token of this thread's that a permit can be borrowed from, under a lock, as long as it holds.
pub(crate) fn lender(permit: &Permit) -> Option<Token> {
    local(|local| local.hand.iter().rev().find(|h| h.permit.is(permit)).map(|h| h.token)).flatten()
}

/// Puts what a delivery holds into the hand; returns the place.
pub(crate) fn put_in_hand(
    home: Home,
    kind: PermitKind,
    token: Token,
    event: &AnyEvent,
    delivery: usize,
    shared: bool,
) -> usize {
    let hold = Hold {
        permit: Permit { home, kind },
        token,
        in_hand: true,
        shared,
        attached: false,
        event: event.clone(),
        delivery,
    };
    local(|local| {
        local.hand.push(hold);
        local.hand.len() - 1
    })
    .unwrap_or(0)
}

/// How much the hand holds now, to be cut back to later.
pub(crate) fn hand_len() -> usize {
    local(|local| local.hand.len()).unwrap_or(0)
}

/// Forgets what was put in the hand since; who holds it by token is another question.
pub(crate) fn cut_hand(len: usize) {
    let gone = local(|local| local.hand.split_off(len.min(local.hand.len())));
    drop(gone);
}

/// The deadline that a handler started now on top of this thread's frames could not pass.
pub(crate) fn deadline_below() -> Tick {
    local(|local| local.frames.last().map_or(NEVER, |f| f.deadline)).unwrap_or(NEVER)
}

/// Makes this thread count as inside a handler that runs on another one, until the guard goes.
pub(crate) fn attach(frame: &Frame) -> Attached {
    let manner = frame.event.state().lock().deliveries.get(frame.delivery).map(|d| d.manner);
    let token = delivery_token(&frame.event, frame.delivery);
    let turn = manner.and_then(|m| frame.bus.turn_home(m.turn)).map(|home| Permit { home, kind: PermitKind::Event });
    let handler =
        manner.filter(|m| m.bus_handler).map(|_| Permit { home: frame.bus.home(), kind: PermitKind::Handler });
    let holds = [turn, handler].into_iter().flatten().map(|permit| Hold {
        permit,
        token,
        in_hand: true,
        shared: true,
        attached: true,
        event: frame.event.clone(),
        delivery: frame.delivery,
    });
    let (hand, context) = local(|local| {
        let hand = local.hand.len();
        local.hand.extend(holds);
        let under = (hand..local.hand.len()).collect();
        local.frames.push(Frame { under, ..frame.clone() });
        (hand, std::mem::replace(&mut local.context, frame.event.head().context.clone()))
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
            (local.frames.pop(), context)
        });
        cut_hand(self.hand);
        drop(gone);
    }
}
