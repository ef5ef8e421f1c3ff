//! What a thread carries while it runs handlers: its frames, and the permits it has in hand.

use crate::bus::core::BusCore;
use crate::bus::core::permit::{Permit, delivery_token};
use crate::event::{
    AnyEvent, ContextMap, EventId, HandlerId, HandlerInfo, Manner, ParentLink, State, TurnKind, given_up, marked,
};
use crate::runtime::{PermitKind, Worker, is_service_thread};
use crate::sync::Token;
use crate::sys::clock::Tick;
use crate::sys::logging;
use crate::sys::thread;
use crate::sys::unwind;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::sync::Arc;

/// One handler on this thread's stack.
#[derive(Clone)]
pub(crate) struct Frame {
    pub(crate) event: AnyEvent,
    pub(crate) bus: Arc<BusCore>,
    pub(crate) delivery: usize,
    pub(crate) invocation: usize,
    pub(crate) attempt: u32,
    /// See [`given_up`].
    pub(crate) given_up: u64,
    /// The least of its own, its event's and those of the frames below.
    pub(crate) deadline: Tick,
    pub(crate) handler: HandlerId,
    /// It has a limit, and runs on this thread.
    pub(crate) limited: bool,
    /// It has a limit, and runs on another thread, which this one is attached to.
    pub(crate) lends: bool,
    /// Once it has emitted something.
    pub(crate) link: Option<Arc<ParentLink>>,
    /// What its delivery needs.
    pub(crate) holding: Holding,
    /// What it runs under.
    pub(crate) under: Under,
}

/// Which grips of the hand, by their numbers there.
pub(crate) type Grips = SmallVec<[usize; 2]>;

/// What a handler runs under.
#[derive(Clone)]
pub(crate) enum Under {
    /// Its delivery's own permits, which nobody has asked for yet: most handlers never wait.
    Delivery,
    Hand(Grips),
}

/// What a delivery holds.
#[derive(Clone, Copy)]
pub(crate) struct Holding {
    pub(crate) turn: TurnKind,
    pub(crate) bus_handler: bool,
    /// Its handlers run on several threads.
    pub(crate) shared: bool,
}

impl Holding {
    pub(crate) fn of(manner: Manner) -> Self {
        Holding { turn: manner.turn, bus_handler: manner.bus_handler, shared: manner.parallel }
    }

    fn count(self) -> usize {
        usize::from(self.turn != TurnKind::Free) + usize::from(self.bus_handler)
    }

    /// What it is, in the order in which it is taken.
    pub(crate) fn permits(self, bus: &Arc<BusCore>) -> impl Iterator<Item = Permit> {
        let turn = bus.turn_home(self.turn).map(|home| Permit { home, kind: PermitKind::Event });
        let handler = self.bus_handler.then(|| Permit { home: bus.home(), kind: PermitKind::Handler });
        turn.into_iter().chain(handler)
    }

    /// Into the hand, as the delivery's.
    pub(crate) fn holds(self, bus: &Arc<BusCore>, event: &AnyEvent, delivery: usize) -> impl Iterator<Item = Grip> {
        let token = delivery_token(event, delivery);
        self.permits(bus).map(move |permit| Grip {
            permit,
            token,
            in_hand: true,
            shared: self.shared,
            attached: false,
            event: event.clone(),
            delivery,
        })
    }
}

/// Where an emit comes from.
#[derive(Default)]
pub(crate) struct Surroundings {
    /// The handler.
    pub(crate) emitter: Option<Emitter>,
    /// From what it emits to its event.
    pub(crate) link: Option<Arc<ParentLink>>,
    pub(crate) context: Option<Arc<ContextMap>>,
}

/// What an emit needs to know of the handler that it comes from.
pub(crate) struct Emitter {
    pub(crate) event: AnyEvent,
    pub(crate) delivery: usize,
    pub(crate) invocation: usize,
    attempt: u32,
}

impl Emitter {
    pub(crate) fn is_live(&self, state: &State) -> bool {
        state.deliveries.get(self.delivery).is_some_and(|d| d.is_live(self.invocation, self.attempt))
    }
}

impl Frame {
    /// The registration that runs.
    pub(crate) fn info(&self) -> Option<HandlerInfo> {
        self.event.state().lock().deliveries.get(self.delivery)?.handler(self.invocation).cloned()
    }

    pub(crate) fn label(&self) -> String {
        self.info().map_or_else(|| "a handler".to_owned(), |info| info.label())
    }

    /// Where in the hand it finds what it runs under; for a frame that [`top`] gave.
    pub(crate) fn under(&self) -> &[usize] {
        match &self.under {
            Under::Hand(grips) => grips,
            Under::Delivery => &[],
        }
    }

    /// Not timed out, not cancelled: what it does still counts.
    pub(crate) fn is_live(&self) -> bool {
        self.event
            .state()
            .lock()
            .deliveries
            .get(self.delivery)
            .is_some_and(|d| d.is_live(self.invocation, self.attempt))
    }

    /// On the handler's own thread, while it runs: what it does still counts.
    fn is_live_here(&self) -> bool {
        given_up() == self.given_up || self.is_live()
    }

    pub(crate) fn is(&self, event: &AnyEvent, delivery: usize, invocation: usize) -> bool {
        self.event.same(event) && self.delivery == delivery && self.invocation == invocation
    }
}

/// A permit that a frame of this thread holds, or has given up for a wait.
#[derive(Clone)]
pub(crate) struct Grip {
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
    /// So many of the first frames have what they run under in the hand.
    pub(crate) in_hand: usize,
    pub(crate) hand: Vec<Grip>,
    pub(crate) context: Option<Arc<ContextMap>>,
    /// Inside a callback of the user's that is not a handler, or between two handlers of a delivery that this thread drives on top of something.
    pub(crate) callbacks: u32,
    /// So many calls of [`apart`](crate::bus::thread::parking::apart) are on this thread.
    pub(crate) apart: u32,
    /// It does on behalf of somebody else what may wait.
    pub(crate) stands_in: bool,
    /// Whether the thread is one of this crate's, once somebody has asked.
    pub(crate) ours: Cell<Option<bool>>,
    /// So many of the frames only wait until those above are gone, which they have nothing to do with: a pump thread that is parked serves
    /// others.
    pub(crate) floor: usize,
    /// Who forbade this thread to block.
    pub(crate) forbidden: Vec<&'static Location<'static>>,
}

impl Local {
    /// The handler that waits for the one to be put on top.
    pub(crate) fn below(&self) -> Option<&Frame> {
        self.frames.get(self.floor..)?.last()
    }

    /// No call of ours may block: it comes from a callback that is not a handler, or from the `Drop` of something that this thread lets go
    /// on its way from one handler to the next.
    #[inline]
    pub(crate) fn is_in_callback(&self) -> bool {
        self.callbacks > 0 || self.frames.len() <= self.floor && self.is_on_its_way()
    }

    #[inline]
    fn is_on_its_way(&self) -> bool {
        !self.stands_in && (self.apart > 0 || self.is_ours())
    }

    /// A thread of this crate's. What a thread is it has been from its start.
    #[inline]
    fn is_ours(&self) -> bool {
        self.ours.get().unwrap_or_else(|| {
            let ours = Worker::is_pooled_here() || is_service_thread() || logging::is_log_thread();
            self.ours.set(Some(ours));
            ours
        })
    }

    /// The handler that runs on this thread, once what it runs under is in the hand.
    fn top_in_hand(&mut self) -> Option<&Frame> {
        let Local { frames, hand, in_hand, .. } = self;
        for frame in frames.iter_mut().skip(*in_hand) {
            if let Under::Delivery = frame.under {
                let first = hand.len();
                hand.extend(frame.holding.holds(&frame.bus, &frame.event, frame.delivery));
                frame.under = Under::Hand((first..hand.len()).collect());
            }
        }
        *in_hand = frames.len();
        frames.last()
    }

    /// Takes the topmost frame off.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Frame> {
        let gone = self.frames.pop();
        self.in_hand = self.in_hand.min(self.frames.len());
        gone
    }
}

thread::local! {
    static LOCAL: RefCell<Local> = RefCell::new(Local::default());
}

/// Looks at what the thread carries. `body` must not run user code nor drop what users gave. `None` while the thread ends.
pub(crate) fn local<R>(body: impl FnOnce(&mut Local) -> R) -> Option<R> {
    LOCAL.try_with(|local| body(&mut local.borrow_mut())).ok()
}

/// The handler that runs on this thread, with what it runs under in the hand.
pub(crate) fn top() -> Option<Frame> {
    local(|local| local.top_in_hand().cloned()).flatten()
}

/// What the handler on this thread lends to a child that it waits for.
pub(crate) struct Lent {
    pub(crate) bus: Arc<BusCore>,
    pub(crate) holding: Holding,
    pub(crate) grips: Grips,
    /// Of the delivery that lends its turn, if it has one.
    pub(crate) lender: Option<Token>,
    pub(crate) deadline: Tick,
    /// Of the event that is handled.
    pub(crate) wait_depth: u32,
}

/// All of it, if the handler of that event is on top of this thread, still counts, and has all in hand and for itself.
pub(crate) fn lend_all(parent: EventId) -> Option<Lent> {
    local(|local| {
        let at = local.frames.len();
        let (event, grips): (_, Grips) = {
            let frame = local.top_in_hand()?;
            // A permit of the handler's own comes after those of its delivery, and is lent one by one.
            (frame.event.head().id(), frame.under().iter().take(frame.holding.count()).copied().collect())
        };
        let own = |grip: &Grip| grip.in_hand && !grip.shared && !grip.attached;
        let all = grips.iter().all(|&at| local.hand.get(at).is_some_and(own));
        let frame = local.frames.get(at - 1)?;
        if event != parent || !all || !frame.is_live_here() {
            return None;
        }
        let turn = grips.first().filter(|_| frame.holding.turn != TurnKind::Free);
        let lender = turn.map(|&at| local.hand[at].token);
        let (holding, deadline, wait_depth) = (frame.holding, frame.deadline, frame.event.head().wait_depth());
        Some(Lent { bus: Arc::clone(&frame.bus), holding, grips, lender, deadline, wait_depth })
    })
    .flatten()
}

/// Whether the handler that lent has everything as it was.
pub(crate) fn still_holds(lent: &Lent) -> bool {
    local(|local| {
        let in_hand = lent.grips.iter().all(|&at| local.hand.get(at).is_some_and(|grip| grip.in_hand));
        in_hand && local.frames.last().is_some_and(Frame::is_live_here)
    })
    .unwrap_or(false)
}

/// Where an emit of this thread comes from.
pub(crate) fn surroundings() -> Surroundings {
    local(|local| {
        let by =
            local.frames.last_mut().map(|Frame { event, delivery, invocation, attempt, handler, link, .. }| {
                let link = Arc::clone(link.get_or_insert_with(|| ParentLink::to(event, Some(*handler))));
                let (delivery, invocation, attempt) = (*delivery, *invocation, *attempt);
                (Emitter { event: event.clone(), delivery, invocation, attempt }, link)
            });
        let (emitter, link) = by.unzip();
        Surroundings { emitter, link, context: local.context.clone() }
    })
    .unwrap_or_default()
}

/// Inside a handler.
pub(crate) fn is_inside() -> bool {
    local(|local| !local.frames.is_empty()).unwrap_or(false)
}

/// Inside a middleware, filter, hook, tracker, or a `Drop` between two handlers, where a blocking call could never be right.
pub(crate) fn in_callback() -> bool {
    local(|local| local.is_in_callback()).unwrap_or(false)
}

/// Why no call of ours may block here.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Barred {
    Callback,
    /// Since then, and there.
    Forbidden(&'static Location<'static>),
}

/// Whether a call of ours may block on this thread.
#[inline]
pub(crate) fn barred() -> Option<Barred> {
    local(|local| {
        if local.is_in_callback() {
            return Some(Barred::Callback);
        }
        local.forbidden.last().map(|since| Barred::Forbidden(since))
    })
    .flatten()
}

/// Runs a callback of the user's that is not a handler. A panic in it becomes its text.
pub(crate) fn callback<R>(body: impl FnOnce() -> R) -> Result<R, String> {
    local(|local| local.callbacks += 1);
    let result = crate::sys::unwind::catch(body);
    local(|local| local.callbacks -= 1);
    result
}

/// Drops a value of the user's while something is owed that a wait in its `Drop` may wait for: that answers `Deadlock`.
pub(crate) fn let_go<T>(value: T) {
    let _ = callback(|| unwind::drop_quietly(value));
}

/// Runs a callback that has nothing to do with the handler it happens to come on top of: what it emits is not that handler's.
pub(crate) fn callback_apart<R>(context: Option<Arc<ContextMap>>, body: impl FnOnce() -> R) -> Result<R, String> {
    let context = if logging::is_inside() { Some(marked(context.as_ref())) } else { context };
    let below = local(|local| {
        let in_hand = std::mem::take(&mut local.in_hand);
        (std::mem::take(&mut local.frames), in_hand, std::mem::replace(&mut local.context, context))
    });
    let result = callback(body);
    let gone = below.and_then(|(frames, in_hand, context)| {
        local(|local| {
            local.in_hand = in_hand;
            (std::mem::replace(&mut local.frames, frames), std::mem::replace(&mut local.context, context))
        })
    });
    drop(gone);
    result
}
