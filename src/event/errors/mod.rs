//! What goes wrong: why a call of this crate does not do what it was asked (`answers`), what a handler fails with (`failure`), why it was
//! given up (`cause`), and how all that reads as one chain of errors (`chain`, `text`).

mod answers;
mod cause;
mod chain;
mod failure;
mod text;

pub use answers::{BuildError, EmitError, JsonError, ResultError, TryEmitError, WaitError};
pub use cause::{Cause, CauseKind};
pub use failure::{BoxError, HandlerError, HandlerFailure};
