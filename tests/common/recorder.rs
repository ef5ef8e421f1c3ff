//! A middleware that writes down what it is told.
#![allow(dead_code, reason = "every test file uses its own part of this module")]

use super::common::lock;
use std::sync::{Arc, Mutex};
use threadbus::{
    AnyEvent, AnyOutput, BoxError, BusBuilder, EventBus, EventId, EventStatus, HandlerInfo, HandlerResult, Middleware,
    ResultStatus,
};

/// One call.
#[derive(Clone, Debug)]
pub enum Told {
    Emit(AnyEvent),
    Event(AnyEvent, EventStatus),
    Result(AnyEvent, HandlerResult<AnyOutput>),
    Handler(HandlerInfo, bool),
}

/// Clones share what they are told.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Vec<Told>>>);

impl Recorder {
    pub fn new() -> Self {
        Self::default()
    }

    /// A builder of a bus that has a new one.
    pub fn on(name: &str) -> (Recorder, BusBuilder) {
        let recorder = Recorder::new();
        let builder = EventBus::builder(name).middleware(recorder.clone());
        (recorder, builder)
    }

    /// Everything, in the order in which it was told.
    pub fn all(&self) -> Vec<Told> {
        lock(&self.0).clone()
    }

    pub fn emits(&self) -> usize {
        self.all().iter().filter(|told| matches!(told, Told::Emit(_))).count()
    }

    /// What an event went through.
    pub fn statuses(&self, event: impl AsRef<AnyEvent>) -> Vec<EventStatus> {
        let id = event.as_ref().id();
        let status = |told| if let Told::Event(of, status) = told { (of.id() == id).then_some(status) } else { None };
        self.all().into_iter().filter_map(status).collect()
    }

    /// The results of an event, in order.
    pub fn results(&self, event: impl AsRef<AnyEvent>) -> Vec<HandlerResult<AnyOutput>> {
        let id = event.as_ref().id();
        let result = |told| if let Told::Result(of, result) = told { (of.id() == id).then_some(result) } else { None };
        self.all().into_iter().filter_map(result).collect()
    }

    /// What the result of one handler went through.
    pub fn of_handler(&self, event: impl AsRef<AnyEvent>, handler: &HandlerInfo) -> Vec<ResultStatus> {
        let results = self.results(event).into_iter().filter(|result| result.handler.id() == handler.id());
        results.map(|result| result.status).collect()
    }

    /// The patterns of the handlers that came, or that went.
    pub fn handlers(&self, registered: bool) -> Vec<String> {
        let pattern = |told| match told {
            Told::Handler(info, is) if is == registered => Some(info.pattern().to_owned()),
            _ => None,
        };
        self.all().into_iter().filter_map(pattern).collect()
    }

    /// The ids of the events that it was told of, without repeats.
    pub fn events(&self) -> Vec<EventId> {
        let id = |told| if let Told::Event(event, _) = told { Some(event.id()) } else { None };
        let mut ids: Vec<_> = self.all().into_iter().filter_map(id).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Every event in order and once, and every result too; complete ones to the end.
    #[track_caller]
    pub fn check(&self) {
        use EventStatus::{Completed, Pending, Started};
        let mut events = std::collections::BTreeMap::<EventId, (Vec<EventStatus>, bool)>::new();
        let mut results = std::collections::BTreeMap::<(EventId, uuid::Uuid), Vec<ResultStatus>>::new();
        for told in self.all() {
            match told {
                Told::Event(event, status) => {
                    let (statuses, _) = events.entry(event.id()).or_default();
                    statuses.push(status);
                }
                Told::Result(event, result) => {
                    let (statuses, complete) = events.entry(event.id()).or_default();
                    *complete |= statuses.last() == Some(&Completed);
                    assert!(statuses.first() == Some(&Pending), "{event}: a result before the event");
                    results.entry((event.id(), result.id)).or_default().push(result.status);
                }
                Told::Emit(_) | Told::Handler(..) => {}
            }
        }
        for (id, (statuses, after)) in events {
            let good = statuses == [Pending, Started, Completed] || statuses == [Pending, Completed];
            assert!(good, "{id}: {statuses:?}");
            assert!(!after, "{id}: a result after the event was complete");
        }
        for (id, statuses) in results {
            use ResultStatus as S;
            let good =
                matches!(statuses[..], [S::Pending, S::Started, S::Completed | S::Error] | [S::Pending, S::Error]);
            assert!(good, "{id:?}: {statuses:?}");
        }
    }

    fn push(&self, told: Told) {
        lock(&self.0).push(told);
    }
}

impl Middleware for Recorder {
    fn on_emit(&self, _: &EventBus, event: &AnyEvent) -> Result<(), BoxError> {
        self.push(Told::Emit(event.clone()));
        Ok(())
    }

    fn on_event_change(&self, _: &EventBus, event: &AnyEvent, status: EventStatus) {
        self.push(Told::Event(event.clone(), status));
    }

    fn on_result_change(&self, _: &EventBus, event: &AnyEvent, result: &HandlerResult<AnyOutput>) {
        self.push(Told::Result(event.clone(), result.clone()));
    }

    fn on_handlers_change(&self, _: &EventBus, handler: &HandlerInfo, registered: bool) {
        self.push(Told::Handler(handler.clone(), registered));
    }
}
