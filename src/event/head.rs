//! What holds for an event on all its buses: identity, parent, correlation, context, its own options.

use crate::event::context_map::{ContextMap, is_marked};
use crate::event::structure::{AnyEvent, Birth, Head, ParentLink, Rare, State};
use crate::event::{EventId, EventOptions, HandlerId, Origin};
use crate::sys::clock::Stamp;
use crate::sys::count::{Early, Gauge, Marks};
use crate::sys::logging;
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use uuid::Uuid;

/// How many events have said which one their parent is, while that need not know of them.
static TOLD_PARENTS: Gauge = Gauge::new();

/// Every event of this process that has a parent is among that one's children, unless that has let go of it.
pub(crate) fn parents_know_their_children() -> bool {
    TOLD_PARENTS.is_zero()
}

impl ParentLink {
    pub(crate) fn to(parent: &AnyEvent, handler: Option<HandlerId>) -> Arc<ParentLink> {
        let head = parent.head();
        Arc::new(ParentLink { id: head.id(), root: head.root(), event: parent.downgrade(), handler })
    }
}

impl Rare {
    pub(crate) fn new(
        correlation: Option<Arc<str>>,
        context: Option<Arc<ContextMap>>,
        options: Option<EventOptions>,
    ) -> Self {
        if options.as_ref().and_then(|options| options.origin.as_ref()).is_some_and(|origin| origin.parent.is_some()) {
            TOLD_PARENTS.begin();
        }
        Rare { correlation, rendered: OnceLock::new(), context, options }
    }
}

impl Drop for Rare {
    fn drop(&mut self) {
        if self.context.as_ref().is_some_and(|context| is_marked(context)) {
            logging::note_let_go();
        }
    }
}

/// Both halves of the bytes as they lie in memory.
#[inline]
fn halves(id: Uuid) -> [u64; 2] {
    let bytes = id.to_u128_le();
    [bytes as u64, (bytes >> 64) as u64]
}

impl Head {
    #[inline(always)]
    pub(super) fn new(birth: Birth) -> Self {
        let Birth { id, stamp, priority, link, rare, bus, phase, manner, parent } = birth;
        let wait_depth = parent.as_ref().map_or(0, |parent| parent.head().wait_depth());
        let [first, second] = halves(id.0);
        Head {
            id: [Early::new(first), Early::new(second)],
            stamp: Early::new(stamp),
            priority,
            parent: link,
            rare: rare.map_or_else(OnceLock::new, OnceLock::from),
            complete: AtomicBool::new(false),
            marks: Marks::new(),
            wait_depth: AtomicU32::new(wait_depth),
            state: Mutex::new(State::on(bus, phase, manner, parent)),
        }
    }

    #[inline]
    pub(crate) fn id(&self) -> EventId {
        let (first, second) = (self.id[0].get(), self.id[1].get());
        EventId(Uuid::from_u128_le(u128::from(first) | u128::from(second) << 64))
    }

    /// Unique in this process and growing: the creation time, unless the event came from elsewhere.
    #[inline]
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp.get()
    }

    /// Gives the event another id, while only its emitter knows it.
    #[cold]
    pub(crate) fn rename(&self, stamp: Stamp, id: Uuid) {
        let [first, second] = halves(id);
        self.id[0].set(first);
        self.id[1].set(second);
        self.stamp.set(stamp);
    }

    /// How many handlers wait, as far as is known: each for the event of the next, and the last for this event or one above it.
    #[inline]
    pub(crate) fn wait_depth(&self) -> u32 {
        self.wait_depth.load(Ordering::Relaxed)
    }

    /// Called by a handler that begins to wait for the event, or ends that wait.
    #[inline]
    pub(crate) fn set_wait_depth(&self, depth: u32) {
        self.wait_depth.store(depth, Ordering::Relaxed);
    }

    pub(crate) fn root(&self) -> EventId {
        self.parent.as_ref().map_or_else(|| self.id(), |parent| parent.root)
    }

    pub(crate) fn own_correlation(&self) -> Option<&Arc<str>> {
        self.rare.get()?.correlation.as_ref()
    }

    pub(crate) fn correlation(&self) -> &str {
        let rare = self.rare.get_or_init(Box::default);
        match &rare.correlation {
            Some(id) => id,
            None => rare.rendered.get_or_init(|| self.root().to_string().into_boxed_str()),
        }
    }

    pub(crate) fn context(&self) -> Option<&Arc<ContextMap>> {
        self.rare.get()?.context.as_ref()
    }

    /// True if it was emitted inside a logger that this crate has called, or below such an event.
    pub(crate) fn is_from_logger(&self) -> bool {
        self.context().is_some_and(|context| is_marked(context))
    }

    pub(crate) fn options(&self) -> Option<&EventOptions> {
        self.rare.get()?.options.as_ref()
    }

    /// What it brought along, if it came as JSON.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.options()?.origin.as_deref()
    }
}
