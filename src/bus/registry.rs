//! Which handlers an event type has: one table for typed, by-name and wildcard registrations.
//!
//! Copy-on-write: a delivery takes the list of its type as it is when claimed. Wildcards are merged into the lists when they are
//! made, so an event costs the same however many handlers are registered for other types.

use crate::event::{AnyEvent, Body, EventId, EventOptions, HandlerEntry, HandlerId, HandlerInfo, HandlerList, Kind};
use crate::rules::{BusDefaults, Plan, plan};
use crate::sys::sync::RwLock;
use std::any::TypeId;
use std::collections::HashMap;
use std::sync::Arc;

/// What events of one type need on one bus.
pub(crate) struct TypeSlot {
    /// The type's own options, asked once.
    pub(crate) options: Arc<EventOptions>,
    /// What holds for an event without options of its own.
    pub(crate) plan: Plan,
    pub(crate) handlers: HandlerList,
}

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

#[derive(Default)]
struct Table {
    exact: HashMap<String, Vec<Registered>>,
    wild: Vec<Arc<HandlerEntry>>,
    patterns: HashMap<HandlerId, String>,
    options: HashMap<TypeId, Arc<EventOptions>>,
    slots: HashMap<Key, Arc<TypeSlot>>,
    /// The types that JSON may become, by name; of two with one name the first.
    kinds: HashMap<&'static str, Kind>,
    closed: bool,
}

#[derive(Default)]
pub(crate) struct Registry(RwLock<Table>);

pub(crate) const WILDCARD: &str = "*";

/// Slots of dynamic types are dropped beyond this many: others choose those names.
const DYNAMIC_SLOTS: usize = 1024;

impl Registry {
    pub(crate) fn new() -> Self {
        Registry(RwLock::new(Table::default()))
    }

    /// False if the bus is closed. A name taken already is only worth a warning: the ids differ.
    pub(crate) fn add(&self, entry: Arc<HandlerEntry>, payload: Option<TypeId>) -> bool {
        let pattern = entry.info.pattern().to_owned();
        let mut twin = None;
        {
            let mut table = self.0.write();
            if table.closed {
                return false;
            }
            table.patterns.insert(entry.info.id(), pattern.clone());
            if pattern == WILDCARD {
                table.wild.push(entry.clone());
                table.slots.clear();
            } else {
                let same = table.exact.entry(pattern.clone()).or_default();
                // Only the newest few are compared: a loop that registers thousands must not pay for all of them each time.
                twin = same
                    .iter()
                    .rev()
                    .take(8)
                    .find(|r| r.entry.info.name() == entry.info.name())
                    .map(|r| r.entry.info.label());
                same.push(Registered { entry: entry.clone(), payload });
                table.forget(&pattern, payload);
            }
        }
        if let Some(twin) = twin {
            log::debug!(target: "threadbus", "{} on {pattern} is already registered as {twin}; both run", entry.info.label());
        }
        true
    }

    /// Takes one out. What was taken out is dropped by the caller, outside the lock.
    pub(crate) fn remove(&self, id: HandlerId) -> Option<Arc<HandlerEntry>> {
        let (entry, slots);
        {
            let mut table = self.0.write();
            let pattern = table.patterns.remove(&id)?;
            if pattern == WILDCARD {
                let at = table.wild.iter().position(|e| e.info.id() == id)?;
                entry = table.wild.remove(at);
                slots = std::mem::take(&mut table.slots).into_values().collect();
            } else {
                let same = table.exact.get_mut(&pattern)?;
                let at = same.iter().position(|r| r.entry.info.id() == id)?;
                let registered = same.remove(at);
                if same.is_empty() {
                    table.exact.remove(&pattern);
                }
                entry = registered.entry;
                slots = table.forget(&pattern, registered.payload);
            }
        }
        entry.info.end();
        drop::<Vec<Arc<TypeSlot>>>(slots);
        Some(entry)
    }

    /// Takes out all of a pattern; of one payload type only, if given.
    pub(crate) fn remove_all(&self, pattern: &str, payload: Option<TypeId>) -> Vec<Arc<HandlerEntry>> {
        let ids: Vec<HandlerId> = {
            let table = self.0.read();
            if pattern == WILDCARD {
                table.wild.iter().map(|e| e.info.id()).collect()
            } else {
                let same = table.exact.get(pattern).map_or(&[][..], |v| v);
                same.iter()
                    .filter(|r| payload.is_none() || r.payload.is_none() || r.payload == payload)
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

    /// The same with all that belongs to them.
    pub(crate) fn entries(&self) -> Vec<Arc<HandlerEntry>> {
        let table = self.0.read();
        let mut entries: Vec<_> =
            table.exact.values().flatten().map(|r| &r.entry).chain(&table.wild).cloned().collect();
        entries.sort_by_key(|entry| entry.info.id());
        entries
    }

    /// From now on JSON of this type's name becomes this type.
    pub(crate) fn know(&self, kind: Kind) {
        let name = (kind.name)();
        if !self.0.read().kinds.contains_key(name) {
            self.0.write().kinds.entry(name).or_insert(kind);
        }
    }

    pub(crate) fn known(&self, name: &str) -> Option<Kind> {
        self.0.read().kinds.get(name).copied()
    }

    /// Ends all registrations and takes no new ones.
    pub(crate) fn close(&self) -> Vec<Arc<HandlerEntry>> {
        let mut table = self.0.write();
        table.closed = true;
        table.slots.clear();
        table.patterns.clear();
        let exact = std::mem::take(&mut table.exact);
        let wild = std::mem::take(&mut table.wild);
        drop(table);
        let entries: Vec<_> = exact.into_values().flatten().map(|r| r.entry).chain(wild).collect();
        for entry in &entries {
            entry.info.end();
        }
        entries
    }

    /// The slot of an event's type; made on first use.
    pub(crate) fn slot(&self, body: &dyn Body, defaults: &BusDefaults) -> Arc<TypeSlot> {
        match body.payload_type() {
            Some(payload) => {
                let first = || {
                    body.kind().into_iter().for_each(|kind| self.know(kind));
                    body.default_options()
                };
                self.slot_of(Key::Typed(payload), Some(payload), body.event_type(), first, defaults)
            }
            None => self.slot_of(
                Key::Dynamic(body.event_type().to_owned()),
                None,
                body.event_type(),
                || body.default_options(),
                defaults,
            ),
        }
    }

    pub(crate) fn slot_of_type(
        &self,
        payload: TypeId,
        name: &str,
        options: impl FnOnce() -> EventOptions,
        defaults: &BusDefaults,
    ) -> Arc<TypeSlot> {
        self.slot_of(Key::Typed(payload), Some(payload), name, options, defaults)
    }

    fn slot_of(
        &self,
        key: Key,
        payload: Option<TypeId>,
        name: &str,
        options: impl FnOnce() -> EventOptions,
        defaults: &BusDefaults,
    ) -> Arc<TypeSlot> {
        if let Some(slot) = self.0.read().slots.get(&key) {
            return Arc::clone(slot);
        }
        // `Payload::options` is the user's: asked outside the lock, at most once a type unless two threads meet here.
        let known = payload.and_then(|payload| self.0.read().options.get(&payload).cloned());
        let options = known.unwrap_or_else(|| {
            // Identity belongs to one event, not to a type.
            Arc::new(EventOptions { id: None::<EventId>, parent: None, correlation_id: None, ..options() })
        });
        let mut table = self.0.write();
        if let Some(slot) = table.slots.get(&key) {
            return Arc::clone(slot);
        }
        let options = match payload {
            Some(payload) => Arc::clone(table.options.entry(payload).or_insert(options)),
            None => options,
        };
        let exact = table.exact.get(name).map_or(&[][..], |v| v);
        let handlers = exact
            .iter()
            .filter(|r| r.payload.is_none() || r.payload == payload)
            .map(|r| &r.entry)
            .chain(&table.wild)
            .cloned()
            .collect();
        if payload.is_none() {
            table.bound_dynamic();
        }
        let slot = Arc::new(TypeSlot { plan: plan(None, &options, defaults), options, handlers });
        table.slots.insert(key, Arc::clone(&slot));
        slot
    }
}

impl Table {
    fn bound_dynamic(&mut self) {
        let is_dynamic = |key: &Key| matches!(key, Key::Dynamic(_));
        if self.slots.len() >= DYNAMIC_SLOTS && self.slots.keys().filter(|key| is_dynamic(key)).count() >= DYNAMIC_SLOTS
        {
            self.slots.retain(|key, _| !is_dynamic(key));
        }
    }

    /// The lists that a change of this pattern makes stale.
    fn forget(&mut self, name: &str, payload: Option<TypeId>) -> Vec<Arc<TypeSlot>> {
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

/// An event's options on this bus: its own over its type's.
pub(crate) fn plan_for(event: &AnyEvent, slot: &TypeSlot, defaults: &BusDefaults) -> Plan {
    match &event.head().options {
        Some(own) => plan(Some(own), &slot.options, defaults),
        None => slot.plan,
    }
}
