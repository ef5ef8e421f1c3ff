//! Which holders of which limits wait: they alone can lend a place, and where none but they have places, nobody leaves.

use crate::event::{AnyEvent, LimitGroup};
use crate::sync::Token;
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicUsize, Ordering};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An invocation with a place under a limit whose thread waits for something before it goes on.
#[derive(Clone)]
pub(crate) struct Sleeper {
    pub(crate) event: AnyEvent,
    pub(crate) delivery: usize,
    pub(crate) invocation: usize,
    pub(crate) token: Token,
    pub(crate) worker: u64,
    /// What it waits for. `None`: no event.
    pub(crate) awaited: Option<AnyEvent>,
}

/// The sleepers of one limit, by number. One may be there twice: it is parked, and its thread runs something on top.
#[derive(Default)]
pub(crate) struct Sleepers {
    entries: BTreeMap<u64, Sleeper>,
    /// How often each is there.
    times: FxHashMap<Token, usize>,
}

impl Sleepers {
    /// How many invocations sleep.
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    /// The last that fell asleep first: most waits end in the opposite order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Sleeper> {
        self.entries.values().rev()
    }

    pub(crate) fn has(&self, token: Token) -> bool {
        self.times.contains_key(&token)
    }
}

/// The sleepers of a runtime, by the limit's address, which its entry keeps from being used again.
#[derive(Default)]
pub(crate) struct Asleep {
    groups: Mutex<Groups>,
    /// How many limits have sleepers.
    count: AtomicUsize,
}

#[derive(Default)]
struct Groups {
    of: FxHashMap<usize, (Arc<LimitGroup>, Sleepers)>,
    entered: u64,
}

fn address(group: &Arc<LimitGroup>) -> usize {
    Arc::as_ptr(group).addr()
}

impl Asleep {
    /// Returns its number.
    pub(crate) fn enter(&self, group: &Arc<LimitGroup>, sleeper: Sleeper) -> u64 {
        let mut groups = self.groups.lock();
        groups.entered += 1;
        let number = groups.entered;
        let (_, sleepers) = groups.of.entry(address(group)).or_insert_with(|| (Arc::clone(group), Sleepers::default()));
        *sleepers.times.entry(sleeper.token).or_default() += 1;
        sleepers.entries.insert(number, sleeper);
        self.count.store(groups.of.len(), Ordering::SeqCst);
        number
    }

    pub(crate) fn leave(&self, group: &Arc<LimitGroup>, number: u64) {
        let gone = {
            let mut groups = self.groups.lock();
            let Some((_, sleepers)) = groups.of.get_mut(&address(group)) else { return };
            let sleeper = sleepers.entries.remove(&number);
            if let Some(sleeper) = &sleeper
                && let Some(times) = sleepers.times.get_mut(&sleeper.token)
            {
                *times -= 1;
                if *times == 0 {
                    sleepers.times.remove(&sleeper.token);
                }
            }
            let last = if sleepers.entries.is_empty() { groups.of.remove(&address(group)) } else { None };
            self.count.store(groups.of.len(), Ordering::SeqCst);
            (sleeper, last)
        };
        drop(gone);
    }

    /// Looks at the sleepers of a limit, if it has any. A cap or an event may be locked inside, and nothing else.
    pub(crate) fn of<R>(&self, group: &Arc<LimitGroup>, look: impl FnOnce(&Sleepers) -> R) -> Option<R> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let groups = self.groups.lock();
        groups.of.get(&address(group)).map(|(_, sleepers)| look(sleepers))
    }

    /// The limits of which some holder sleeps.
    pub(crate) fn groups(&self) -> Vec<Arc<LimitGroup>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        self.groups.lock().of.values().map(|(group, _)| Arc::clone(group)).collect()
    }

    #[cfg(threadbus_shuttle)]
    pub(crate) fn len(&self) -> usize {
        self.groups.lock().of.values().map(|(_, sleepers)| sleepers.entries.len()).sum()
    }
}
