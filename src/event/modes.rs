//! The choices an option can take: how many run at once, when an event is complete, what happens when something is full.

use std::time::Duration;

/// How far an event has come.
///
/// It only moves forward. An event on several buses is `Completed` when all of them and all of its children are done.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventStatus {
    /// Emitted, and no bus has started it.
    Pending,
    /// A bus has started it.
    Started,
    /// Everything it set off is done, or it was refused, cancelled or dropped. Final.
    Completed,
}

/// How many events run at once. Default: [`BusSerial`](Self::BusSerial).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EventConcurrency {
    /// One at a time among all events of this mode in the runtime, whatever their bus.
    GlobalSerial,
    /// One at a time on each bus.
    #[default]
    BusSerial,
    /// Every event starts as soon as it is queued.
    Parallel,
}

/// How many handlers run at once. Default: [`BusSerial`](Self::BusSerial).
///
/// A handler that overstayed its timeout no longer counts, though its thread may still be inside it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HandlerConcurrency {
    /// One at a time among all handlers of this mode in the runtime.
    GlobalSerial,
    /// One at a time on each bus, across its events.
    #[default]
    BusSerial,
    /// One at a time for each event on each bus: handlers of two events may overlap.
    EventSerial,
    /// No limit: all handlers of an event run beside each other, as far as there are threads.
    ///
    /// Waking a thread takes longer than many handlers. Where those of a type took less than half a microsecond each the last time,
    /// one thread begins with them, and others join it as soon as one of them waits for an event, or has taken a millisecond.
    Parallel,
}

/// When an event's handlers are through. Default: [`All`](Self::All).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HandlerCompletion {
    /// When every handler has ended.
    #[default]
    All,
    /// On the first handler that returned a value: the others are cancelled, or abandoned if they are running. A failure or
    /// an absent value does not win.
    First,
}

/// What a full history does with the next event. Default: [`DropOldest`](Self::DropOldest).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HistoryPolicy {
    /// The oldest entry leaves, a completed one if there is any. Leaving the history ends nothing; that an unfinished one leaves is told in the
    /// log, at most once a minute with a count.
    #[default]
    DropOldest,
    /// The oldest completed entry leaves; while there is none, the history is longer than its limit. For programs that look events up by id while
    /// they run: how long it can become, the queue says.
    KeepUnfinished,
    /// The oldest completed entry leaves; while there is none, the emit is refused with `EmitError::HistoryFull`.
    Reject,
}

/// What `emit` does when the queue is full. Emits from inside handlers are exempt: neither blocked nor refused. `try_emit` does not wait: under
/// `Block` and `BlockFor` it refuses at once.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnFull {
    /// Waits for room, without limit.
    Block,
    /// Waits for room this long, then refuses with `EmitError::QueueFull`, or `EmitError::RateLimited` if the rate was in the way.
    BlockFor(Duration),
    /// Refuses at once with `EmitError::QueueFull`, or with `EmitError::RateLimited` above the rate.
    Reject,
    /// Drops the oldest event of the lowest priority there is, of those that are queued, or wait and have had no attempt: it ends with
    /// [`CauseKind::Dropped`](crate::CauseKind::Dropped). An arrival below all of them is refused, and so is one that finds only such that have had an
    /// attempt, and one above the rate, which nobody loses a place to.
    DropOldest,
    /// Runs the event on the emitting thread before `emit` returns.
    RunInline,
}

/// How the priorities of a bus share it. Default: [`Strict`](Self::Strict).
///
/// Either way equal priorities run in emit order, a running handler is never pre-empted, and an event that a handler waits for goes
/// ahead of the queue.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fairness {
    /// Always the highest priority. A steady stream of high ones keeps the low ones waiting for good.
    #[default]
    Strict,
    /// The bus is shared between three bands of priorities in proportion to their weights, so that none of them starves; within a band
    /// the higher priority goes first.
    ///
    /// A band's share counts while it has something queued: what one band does not use is shared by the others. A band of weight
    /// 0 runs only while the bands with a weight have nothing queued. All three 0 is a [`BuildError`](crate::BuildError).
    Weighted {
        /// Of the levels 8 to 10.
        high: u32,
        /// Of the levels 4 to 7.
        normal: u32,
        /// Of the levels 0 to 3.
        low: u32,
    },
}

impl Fairness {
    /// Of the bands high, normal, low; `None` if it is strict.
    pub(crate) fn weights(self) -> Option<[u32; 3]> {
        match self {
            Fairness::Weighted { high, normal, low } => Some([high, normal, low]),
            Fairness::Strict => None,
        }
    }
}

/// What happens when a bounded subscription is full.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnLag {
    /// The emitter waits for the subscriber; never inside a handler, there the backlog grows. A `try_emit` is refused with
    /// `EmitError::SubscriptionFull` instead.
    Block,
    /// The oldest unread item is dropped, and counted as lag.
    DropOldest,
}

/// Which queued event goes first: 0 to 10, higher first, equal priorities in emit order. Default:
/// [`NORMAL`](Self::NORMAL), 5.
///
/// A running handler is never pre-empted, and an event that a handler waits for goes ahead of every priority.
///
/// ```
/// use threadbus::*;
///
/// assert!(Priority::HIGH > Priority::NORMAL);
/// assert_eq!(Priority::new(8), Some(Priority::HIGH));
/// assert_eq!(Priority::new(11), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub(crate) u8);

impl Priority {
    /// Level 0: after everything else.
    pub const LOWEST: Priority = Priority(0);
    /// Level 2.
    pub const LOW: Priority = Priority(2);
    /// Level 5, the default.
    pub const NORMAL: Priority = Priority(5);
    /// Level 8.
    pub const HIGH: Priority = Priority(8);
    /// Level 10: before everything else that is queued.
    pub const CRITICAL: Priority = Priority(10);

    /// The priority of this level, or `None` above 10.
    pub const fn new(level: u8) -> Option<Priority> {
        if level <= Self::CRITICAL.0 { Some(Priority(level)) } else { None }
    }

    /// The level, 0 to 10.
    pub const fn level(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_0_to_10_exist_and_no_other() {
        for level in 0..=u8::MAX {
            assert_eq!(Priority::new(level).map(Priority::level), (level <= 10).then_some(level));
        }
        assert_eq!(Priority::default(), Priority::NORMAL);
    }
}
