//! Which handlers an event type has: one table for typed, by-name and wildcard registrations.
//!
//! Copy-on-write: a delivery takes the list of its type as it is when claimed. Wildcards are merged into the lists when they are
//! made, so an event costs the same however many handlers are registered for other types.

use crate::event::{
    Body, EventId, EventOptions, HandlerChange, HandlerEntry, HandlerId, HandlerInfo, Journal, JsonError, KnownType,
    Note, Pace, Payload, Priority, Roster, SlotEntry, TypeSlot,
};
use crate::rules::{self, BusDefaults};
use crate::sys::sync::RwLock;
use crate::sys::sync::atomic::{AtomicU64, Ordering};
use crate::sys::{logging, unwind};
use rustc_hash::FxHashMap;
use std::any::TypeId;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Typed(TypeId),
    Dynamic(String),
}

struct Registered {
    entry: Arc<HandlerEntry>,
    /// Of a typed registration.
    payload: Option<TypeId>,
}

/// In the order of registration, each by its number: one of many is taken out without a search.
type InOrder = BTreeMap<u64, Registered>;

#[derive(Default)]
struct Table {
    exact: FxHashMap<Cow<'static, str>, InOrder>,
    wild: InOrder,
    /// Where each is: its number.
    infos: FxHashMap<HandlerId, (HandlerInfo, u64)>,
    /// How many were ever added.
    added: u64,
    options: FxHashMap<TypeId, Arc<EventOptions>>,
    slots: FxHashMap<Key, Arc<TypeSlot>>,
    /// The types that JSON may become, by name.
    types: FxHashMap<&'static str, Named>,
    closed: bool,
}

#[derive(Default)]
pub(crate) struct Registry {
    table: RwLock<Table>,
    /// Changes with every registration and every end of one.
    generation: AtomicU64,
    /// What middlewares have yet to be told, if there are some.
    journal: Option<Arc<Journal>>,
}

pub(crate) const WILDCARD: &str = "*";

/// A name of types, and whose it is.
struct Named {
    first: KnownType,
    /// The last other one.
    another: Option<KnownType>,
}

impl Named {
    fn has(&self, known: &KnownType) -> bool {
        let is = |other: &KnownType| other.payload == known.payload;
        is(&self.first) || self.another.as_ref().is_some_and(is)
    }
}

/// Slots of dynamic types are dropped beyond this many: others choose those names.
const DYNAMIC_SLOTS: usize = 1024;

impl Registry {
    /// Each change is written down in `journal`, in the order of the changes.
    pub(crate) fn new(journal: Option<Arc<Journal>>) -> Self {
        Registry { journal, ..Registry::default() }
    }

    pub(crate) fn journal(&self) -> Option<&Arc<Journal>> {
        self.journal.as_ref()
    }

    /// Under the table's lock.
    fn note(&self, entry: &HandlerEntry, now: HandlerChange) {
        if let Some(journal) = &self.journal {
            journal.push(Note::Handler(entry.info.clone(), now));
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Under the table's lock.
    fn has_changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// False if the bus is closed. A name taken already is only worth a warning: the ids differ.
    pub(crate) fn add(&self, entry: Arc<HandlerEntry>, known: Option<KnownType>) -> bool {
        known.into_iter().for_each(|known| self.know(known));
        let payload = known.map(|known| known.payload);
        let pattern = entry.info.pattern();
        let tells_twins = logging::takes(log::Level::Debug);
        let mut twin = None;
        let stale = {
            let mut table = self.table.write();
            if table.closed {
                return false;
            }
            self.has_changed();
            self.note(&entry, HandlerChange::Added);
            table.added += 1;
            let number = table.added;
            table.infos.insert(entry.info.id(), (entry.info.clone(), number));
            let registered = Registered { entry: entry.clone(), payload };
            if pattern == WILDCARD {
                table.wild.insert(number, registered);
            } else {
                let same = table.exact.entry(entry.info.shared_pattern()).or_default();
                // Only the newest few are compared: a loop that registers thousands must not pay for all of them each time.
                twin = same
                    .values()
                    .rev()
                    .take(if tells_twins { 8 } else { 0 })
                    .find(|r| r.entry.info.name() == entry.info.name())
                    .map(|r| r.entry.info.label());
                same.insert(number, registered);
            }
            table.forget(pattern, payload)
        };
        // Outside of the lock, for which others may wait. One of its handlers may have ended by now, and this be the last that keeps it.
        unwind::drop_each(stale);
        if let Some(twin) = twin {
            let (info, pattern) = (entry.info.clone(), entry.info.shared_pattern());
            logging::later!(Debug, move || {
                format!("{} on {pattern} is already registered as {twin}; both run", info.label())
            });
        }
        true
    }

    /// Takes one out. What was taken out is dropped by the caller, outside the lock.
    pub(crate) fn remove(&self, id: HandlerId) -> Option<Arc<HandlerEntry>> {
        let (entry, stale) = {
            let mut table = self.table.write();
            let (info, number) = table.infos.remove(&id)?;
            let pattern = info.pattern();
            self.has_changed();
            let Registered { entry, payload } = if pattern == WILDCARD {
                table.wild.remove(&number)?
            } else {
                let same = table.exact.get_mut(pattern)?;
                let registered = same.remove(&number)?;
                if same.is_empty() {
                    table.exact.remove(pattern);
                }
                registered
            };
            entry.info.end();
            self.note(&entry, HandlerChange::Removed);
            (entry, table.forget(pattern, payload))
        };
        unwind::drop_each(stale);
        Some(entry)
    }

    /// Takes out all of a pattern; of one payload type only, if given.
    pub(crate) fn remove_all(&self, pattern: &str, payload: Option<TypeId>) -> Vec<Arc<HandlerEntry>> {
        let ids: Vec<HandlerId> = {
            let table = self.table.read();
            if pattern == WILDCARD {
                table.wild.values().map(|r| r.entry.info.id()).collect()
            } else {
                let same = table.exact.get(pattern).into_iter().flat_map(BTreeMap::values);
                same.filter(|r| payload.is_none() || r.payload.is_none() || r.payload == payload)
                    .map(|r| r.entry.info.id())
                    .collect()
            }
        };
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// In the order of registration.
    pub(crate) fn infos(&self) -> Vec<HandlerInfo> {
        self.entries().iter().map(|entry| entry.info.clone()).collect()
    }

    /// All registrations, with all that belongs to them, in the order of registration.
    pub(crate) fn entries(&self) -> Vec<Arc<HandlerEntry>> {
        let table = self.table.read();
        let mut entries: Vec<_> = table
            .exact
            .values()
            .chain([&table.wild])
            .flat_map(BTreeMap::values)
            .map(|r| Arc::clone(&r.entry))
            .collect();
        entries.sort_by_key(|entry| entry.info.id());
        entries
    }

    /// From now on JSON of this type's name becomes this type.
    pub(crate) fn know(&self, known: KnownType) {
        let name = (known.name)();
        let is_known = self.table.read().types.get(name).is_some_and(|named| named.has(&known));
        if !is_known {
            let mut table = self.table.write();
            let named = table.types.entry(name).or_insert(Named { first: known, another: None });
            if !named.has(&known) {
                named.another = Some(known);
            }
        }
    }

    /// Whether somebody handles events of that name whatever their payload is.
    pub(crate) fn takes_any_payload(&self, name: &str) -> bool {
        let table = self.table.read();
        let by_name = || table.exact.get(name).is_some_and(|same| same.values().any(|r| r.payload.is_none()));
        !table.wild.is_empty() || by_name()
    }

    #[cfg(test)]
    pub(crate) fn slots(&self) -> usize {
        self.table.read().slots.len()
    }

    /// The type that an event of that name is, if one is known here. An error if there are two.
    pub(crate) fn known(&self, name: &str) -> Result<Option<KnownType>, JsonError> {
        match self.table.read().types.get(name) {
            None => Ok(None),
            Some(Named { first, another: None }) => Ok(Some(*first)),
            Some(Named { first, another: Some(another) }) => Err(JsonError::InvalidField {
                field: "event_type".to_owned(),
                reason: format!(
                    "two types are called {name} here: {} and {}",
                    (first.rust_type)(),
                    (another.rust_type)()
                ),
            }),
        }
    }

    /// Ends all registrations and takes no new ones.
    pub(crate) fn close(&self) -> Vec<Arc<HandlerEntry>> {
        let mut table = self.table.write();
        table.closed = true;
        self.has_changed();
        table.slots.clear();
        table.infos.clear();
        let exact = std::mem::take(&mut table.exact);
        let wild = std::mem::take(&mut table.wild);
        let mut entries: Vec<_> =
            exact.into_values().chain([wild]).flat_map(BTreeMap::into_values).map(|r| r.entry).collect();
        entries.sort_by_key(|entry| entry.info.id());
        for entry in &entries {
            entry.info.end();
            self.note(entry, HandlerChange::Removed);
        }
        entries
    }

    /// The slot of an event's type; made on first use.
    pub(crate) fn slot(&self, body: &dyn Body, defaults: &BusDefaults) -> Arc<TypeSlot> {
        let payload = body.handled_as();
        let key = payload.map_or_else(|| Key::Dynamic(body.event_type().to_owned()), Key::Typed);
        let first = || {
            if let Some(known) = body.known_type() {
                known.check_name();
                self.know(known);
            }
            body.default_options()
        };
        self.slot_of(key, payload, || body.event_type(), first, defaults)
    }

    pub(crate) fn slot_of_type<P: Payload>(&self, defaults: &BusDefaults) -> Arc<TypeSlot> {
        self.slot_of_known(KnownType::of::<P>(), defaults)
    }

    pub(crate) fn slot_of_known(&self, known: KnownType, defaults: &BusDefaults) -> Arc<TypeSlot> {
        let first = || {
            known.check_name();
            self.know(known);
            (known.options)()
        };
        self.slot_of(Key::Typed(known.payload), Some(known.payload), known.name, first, defaults)
    }

    /// Name and options are asked for only where the slot is new: both may be the user's code, and a name takes time to cut.
    fn slot_of<'a>(
        &self,
        key: Key,
        payload: Option<TypeId>,
        name: impl FnOnce() -> &'a str,
        options: impl FnOnce() -> EventOptions,
        defaults: &BusDefaults,
    ) -> Arc<TypeSlot> {
        if let Some(slot) = self.table.read().slots.get(&key) {
            return Arc::clone(slot);
        }
        // `Payload::options` is the user's: asked outside the lock, at most once a type unless two threads meet here.
        let known = payload.and_then(|payload| self.table.read().options.get(&payload).cloned());
        let options = known.unwrap_or_else(|| {
            let asked = unwind::catch(options).unwrap_or_else(|panic| {
                logging::later!(Error, move || {
                    format!("the options of an event's type panicked, and it has none: {panic}")
                });
                EventOptions::new()
            });
            // Identity belongs to one event, not to a type.
            Arc::new(EventOptions { id: None::<EventId>, parent: None, correlation_id: None, ..asked })
        });
        let name = name();
        // Mostly this is what it will be. Made outside of the lock, for which those who register at the same time would wait.
        let (generation, entries) = {
            let table = self.table.read();
            (self.generation(), table.handlers_of(name, payload).cloned().collect::<Vec<_>>())
        };
        let made = Arc::new(new_slot(entries.iter(), options, defaults));
        let slot = {
            let mut table = self.table.write();
            let known = table.slots.get(&key).cloned();
            known.unwrap_or_else(|| {
                let options = match payload {
                    Some(payload) => {
                        Arc::clone(table.options.entry(payload).or_insert_with(|| Arc::clone(&made.options)))
                    }
                    None => Arc::clone(&made.options),
                };
                let slot = if generation == self.generation() && Arc::ptr_eq(&options, &made.options) {
                    Arc::clone(&made)
                } else {
                    Arc::new(new_slot(table.handlers_of(name, payload), options, defaults))
                };
                if payload.is_none() {
                    table.bound_dynamic();
                }
                table.slots.insert(key, Arc::clone(&slot));
                slot
            })
        };
        // A handler that has ended meanwhile ends here.
        unwind::drop_quietly((entries, made));
        slot
    }
}

impl Table {
    /// In the order in which they run.
    fn handlers_of(&self, name: &str, payload: Option<TypeId>) -> impl Iterator<Item = &Arc<HandlerEntry>> {
        let exact = self.exact.get(name).into_iter().flat_map(BTreeMap::values);
        let exact = exact.filter(move |r| r.payload.is_none() || r.payload == payload);
        exact.chain(self.wild.values()).map(|r| &r.entry)
    }

    fn bound_dynamic(&mut self) {
        let is_dynamic = |key: &Key| matches!(key, Key::Dynamic(_));
        if self.slots.len() >= DYNAMIC_SLOTS && self.slots.keys().filter(|key| is_dynamic(key)).count() >= DYNAMIC_SLOTS
        {
            self.slots.retain(|key, _| !is_dynamic(key));
        }
    }

    /// The lists that a change of this pattern makes stale.
    fn forget(&mut self, name: &str, payload: Option<TypeId>) -> Vec<Arc<TypeSlot>> {
        if name == WILDCARD {
            return std::mem::take(&mut self.slots).into_values().collect();
        }
        let mut stale = Vec::new();
        match payload {
            Some(payload) => stale.extend(self.slots.remove(&Key::Typed(payload))),
            None => {
                // By name: any type of that name may be meant. Rare, so the lists of all typed slots are made anew.
                stale.extend(self.slots.remove(&Key::Dynamic(name.to_owned())));
                let typed: Vec<_> = self.slots.keys().filter(|key| matches!(key, Key::Typed(_))).cloned().collect();
                stale.extend(typed.into_iter().filter_map(|key| self.slots.remove(&key)));
            }
        }
        stale
    }
}

fn new_slot<'a>(
    entries: impl Iterator<Item = &'a Arc<HandlerEntry>>,
    options: Arc<EventOptions>,
    defaults: &BusDefaults,
) -> TypeSlot {
    let handlers: Box<[SlotEntry]> = entries
        .map(|entry| {
            let mode = rules::handler_mode(None, &options, &entry.options, defaults);
            SlotEntry::new(entry, mode, rules::timing(None, &options, &entry.options, defaults))
        })
        .collect();
    let plan = rules::plan(None, &options, defaults).with_handlers(handlers.iter().map(|handler| handler.mode));
    TypeSlot {
        priority: options.priority.unwrap_or(Priority::NORMAL),
        plan,
        slow_event: rules::slow_event(None, &options, defaults),
        pace: Pace::of(&handlers),
        roster: Arc::new(Roster(handlers.iter().map(|h| h.entry.info.clone()).collect())),
        handlers,
        options,
    }
}
