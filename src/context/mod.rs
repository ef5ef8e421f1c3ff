//! Values that travel from the emitting thread to the handlers of what it emits, and on to their children.
//!
//! A request id, a tenant, a trace: what many functions need and none wants to hand on. A value is known by its type; give it a type
//! of its own. The map is shared, not copied: an event costs one reference count for it, and nothing if nothing is set.
//!
//! The bus room does the travelling: `emit` takes the thread's map along, an attempt has its event's map and gives the thread its own
//! back. This room, which imports `bus` and `sys`, only sets and reads the thread's map.
//!
//! ```
//! use std::sync::Arc;
//! use threadbus::{Event, EventBus, Payload, context};
//!
//! #[derive(Debug, PartialEq)]
//! struct RequestId(u64);
//! struct Save;
//! impl Payload for Save { type Output = u64; }
//! struct Audit;
//! impl Payload for Audit { type Output = u64; }
//!
//! fn request() -> u64 {
//!     context::get::<RequestId>().map_or(0, |id| id.0)
//! }
//! let bus = EventBus::new("app");
//! bus.on(|_: &Event<Audit>| request());
//! bus.on(|save: &Event<Save>| save.bus().emit(Audit).result());
//! let save = context::with(RequestId(7), || bus.emit(Save));
//! assert_eq!(save.result()?, 7);
//! assert_eq!(context::get::<RequestId>(), None);
//! # Ok::<(), threadbus::ResultError>(())
//! ```

use crate::bus::local;
use crate::event::{ContextMap, is_marked, marked};
use crate::sys::unwind;
use std::any::TypeId;
use std::sync::Arc;

/// Runs `body` with `value` in the context: whatever it emits takes the value along to its handlers, and on to what they emit. An inner
/// `with` of the same type hides the outer one; other types stay. Neither blocks nor panics by itself; a panic in `body` passes through.
///
/// Threads that `body` starts do not inherit it, unless by [`scope::spawn`](crate::scope::spawn).
///
/// ```
/// use threadbus::context;
/// struct Depth(u32);
/// let depth = || context::get::<Depth>().map(|depth| depth.0);
/// context::with(Depth(1), || {
///     assert_eq!(context::with(Depth(2), depth), Some(2));
///     assert_eq!(depth(), Some(1));
/// });
/// assert_eq!(depth(), None);
/// ```
pub fn with<T: Send + Sync + 'static, R>(value: T, body: impl FnOnce() -> R) -> R {
    let outer = local(|local| local.context.clone()).flatten();
    let mut map = outer.as_deref().cloned().unwrap_or_default();
    map.insert(TypeId::of::<T>(), Arc::new(value));
    let _outer = Outer::set_aside(Some(Arc::new(map)));
    body()
}

/// Runs `body` with no values in the context. Neither blocks nor panics by itself; a panic in `body` passes through.
///
/// For what outlives the request that starts it, and is not part of it: a schedule planned by [`emit_every`](crate::EventBus::emit_every) would
/// keep that request's values for as long as it lasts.
///
/// ```
/// use threadbus::context;
/// struct RequestId(u32);
/// context::with(RequestId(1), || {
///     context::without(|| assert!(context::get::<RequestId>().is_none()));
///     assert!(context::get::<RequestId>().is_some());
/// });
/// ```
pub fn without<R>(body: impl FnOnce() -> R) -> R {
    let outer = local(|local| local.context.clone()).flatten();
    // That a logger has emitted it is no value of the program's.
    let none = outer.as_deref().is_some_and(is_marked).then(|| marked(None));
    unwind::drop_quietly(outer);
    let _outer = Outer::set_aside(none);
    body()
}

/// The innermost value of this type: set on this thread by [`with`], or, inside a handler, where its event was emitted.
///
/// ```
/// use threadbus::context;
/// assert_eq!(context::with(7u64, || context::get::<u64>()).as_deref(), Some(&7));
/// assert_eq!(context::get::<u64>(), None);
/// ```
pub fn get<T: Send + Sync + 'static>() -> Option<Arc<T>> {
    let map = local(|local| local.context.clone()).flatten()?;
    Arc::clone(map.get(&TypeId::of::<T>())?).downcast::<T>().ok()
}

/// The thread's map before; back when this is dropped, also by a panic.
struct Outer(Option<Arc<ContextMap>>);

impl Outer {
    fn set_aside(map: Option<Arc<ContextMap>>) -> Outer {
        Outer(local(|local| std::mem::replace(&mut local.context, map)).flatten())
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        let outer = self.0.take();
        let inner = local(|local| std::mem::replace(&mut local.context, outer)).flatten();
        // Values of the user's: dropped outside of the thread's own lock, and maybe while a panic passes.
        unwind::drop_quietly(inner);
    }
}
