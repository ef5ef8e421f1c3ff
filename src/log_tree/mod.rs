//! What happened, as a tree in text: events, the handlers that ran, and what those emitted, each with status, time and result.
//!
//! The tree is taken in `bus/parts/tree.rs`, since a bus that shuts down leaves its last one behind. Here it is drawn (`draw`): by a list and not by
//! recursion, since a chain of events may be ten thousand deep.
//!
//! Imports `sys`, `event` and `bus`. Exports [`TreeStyle`], and hangs `log_tree` and `log_tree_with` on [`EventBus`] and on both event
//! types from above.

mod draw;
mod style;

pub use style::TreeStyle;

use crate::bus::EventBus;
use crate::bus::Tree;
use crate::event::{AnyEvent, Event, Payload};
use crate::sys::one_line::on_one_line;

impl EventBus {
    /// What the history has, as a tree for people: every event with its handlers, every handler with what it emitted.
    ///
    /// Roots are the events without a parent in this bus's history, and of parents in a circle, which events from elsewhere may have, the first. Each event is there
    /// once, in emit order, handlers in the order they run. Names, errors and values of others are on one line, whatever is in them. Lines are 80 columns wide at most; [`log_tree_with`](EventBus::log_tree_with) has other styles. Times are UTC.
    ///
    /// | sign | event | handler |
    /// | --- | --- | --- |
    /// | ⏳ | not started | not started |
    /// | 🏃 | started | running, or before its next attempt |
    /// | ✅ | complete, no handler failed | done |
    /// | ❌ | complete, a handler failed | failed, panicked |
    /// | ⏰ | complete, a handler timed out | timed out |
    /// | 🚫 | refused, cancelled, dropped | cancelled before it started |
    /// | 🛑 | complete, a handler was given up | given up while it ran |
    ///
    /// A failure of what a handler emitted is shown there, and not above it. After a shutdown, which clears the history,
    /// the tree is the one of that moment, of the last 1,000 events.
    ///
    /// Never blocks. Values are shown by the event's [`Codec`](crate::Codec), without one those of common types, else their type's name.
    ///
    /// ```
    /// use threadbus::{Event, EventBus, HandlerOptions, Payload, TreeStyle};
    /// struct Order;
    /// impl Payload for Order { type Output = String; }
    /// struct Mail;
    /// impl Payload for Mail { type Output = (); }
    ///
    /// let bus = EventBus::new("shop");
    /// let accept = HandlerOptions::new().name("accept");
    /// bus.on_with(accept, |order: &Event<Order>| {
    ///     order.bus().emit(Mail);
    ///     String::from("thank you")
    /// });
    /// bus.on_with(HandlerOptions::new().name("send"), |_: &Event<Mail>| Err::<(), _>("no network"));
    /// bus.emit(Order).wait()?;
    /// println!("{}", bus.log_tree());
    /// assert_eq!(bus.log_tree_with(&TreeStyle::new().ids(false).times(false)), "\
    /// shop: 2 events
    /// └── ✅ Order
    ///     └── ✅ shop.accept → \"thank you\"
    ///         └── ❌ Mail
    ///             └── ❌ shop.send: no network
    /// ");
    /// # Ok::<(), threadbus::WaitError>(())
    /// ```
    pub fn log_tree(&self) -> String {
        self.log_tree_with(&TreeStyle::new())
    }

    /// What the history has, as a tree in a style of one's own. See [`log_tree`](EventBus::log_tree).
    pub fn log_tree_with(&self, style: &TreeStyle) -> String {
        let history = self.history();
        let name = on_one_line(if style.ids { self.label() } else { self.name() });
        let title = |count: usize, of: usize| match count {
            0 => format!("{name}: no events"),
            1 => format!("{name}: 1 event"),
            many if many < of => format!("{name}: the last {many} of {of} events"),
            many => format!("{name}: {many} events"),
        };
        match self.core().last_tree.get() {
            Some(last) if history.is_empty() => draw::draw(Some(&title(last.events, last.of)), last, style),
            _ => draw::draw(Some(&title(history.len(), history.len())), &Tree::of_history(history), style),
        }
    }
}

macro_rules! on_both_event_types {
    ($($head:tt)*) => {
        $($head)* {
            /// This event, its handlers on all its buses, and what those emitted, as a tree for people. See [`EventBus::log_tree`].
            ///
            /// ```
            /// use threadbus::{Event, EventBus, Payload};
            /// struct Ping;
            /// impl Payload for Ping { type Output = u32; }
            ///
            /// let bus = EventBus::new("net");
            /// bus.on(|_: &Event<Ping>| 42);
            /// let tree = bus.emit(Ping).wait()?.log_tree();
            /// assert!(tree.contains("└── ✅ Ping#") && tree.contains("→ 42"), "{tree}");
            /// # Ok::<(), threadbus::WaitError>(())
            /// ```
            pub fn log_tree(&self) -> String {
                self.log_tree_with(&TreeStyle::new())
            }

            /// This event, its handlers and what those emitted, as a tree in a style of one's own.
            pub fn log_tree_with(&self, style: &TreeStyle) -> String {
                let event: &AnyEvent = self.as_ref();
                draw::draw(None, &Tree::of_event(event.clone()), style)
            }
        }
    };
}

on_both_event_types!(impl<P: Payload> Event<P>);
on_both_event_types!(impl AnyEvent);
