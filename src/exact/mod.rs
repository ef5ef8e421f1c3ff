//! Values as bytes that come back the same: all of serde's data model, self-describing.
//!
//! Made for a worker process and its pool, which are of one build: nothing is kept in this form. No format that others keep was found that
//! brings back `Some(None)` and `Some(())`, which most write like `None`, and is self-describing, which flattened, untagged and internally
//! tagged types need.
//!
//! A value begins with a byte that says what it is ([`tag`]); what has parts ends with [`tag::END`], so that no length is believed.
//!
//! - An unsigned integer up to 127 is its own byte, so that a list of bytes takes at most twice their number.
//! - `Some` is written only where it would be lost: before nothing (`None`, a unit).
//! - A structure has the names of its fields, an enum's value that of its variant.
//! - Both sides say that they are readable for humans: where a value is buffered, to find the variant that fits, serde says so anyway, and a
//!   type that looks must see the same on both sides.
//!
//! Nesting ends at [`MAX_DEPTH`], and the stack grows with it. What goes wrong names its place: `shape.corners[3].x`.

mod error;
mod read;
mod write;

pub(crate) use error::Error;
pub(crate) use read::{from_start, from_whole};
pub(crate) use write::append;

/// How deep values may be nested: a thread with a stack of 8 MiB drops them, 2 KiB a level.
pub(crate) const MAX_DEPTH: usize = 4_000;

/// The bytes that say what the next value is.
mod tag {
    pub(super) const UNIT: u8 = 0;
    pub(super) const NONE: u8 = 1;
    /// The value follows, which is nothing.
    pub(super) const SOME: u8 = 2;
    pub(super) const FALSE: u8 = 3;
    pub(super) const TRUE: u8 = 4;
    /// One byte, which is an unsigned integer.
    pub(super) const BYTE: u8 = 5;
    /// A length-prefixed integer, see [`write`](super::write): 0 and above.
    pub(super) const POSITIVE: u8 = 6;
    /// A length-prefixed integer, whose complement is the value: below 0.
    pub(super) const NEGATIVE: u8 = 7;
    /// Four bytes, little end first.
    pub(super) const F32: u8 = 8;
    /// Eight bytes, little end first.
    pub(super) const F64: u8 = 9;
    /// UTF-8, with its length.
    pub(super) const CHAR: u8 = 10;
    /// UTF-8, with its length.
    pub(super) const TEXT: u8 = 11;
    /// Bytes, with their length.
    pub(super) const BYTES: u8 = 12;
    /// Values follow.
    pub(super) const LIST: u8 = 13;
    /// Keys and values follow, in turn.
    pub(super) const MAP: u8 = 14;
    pub(super) const END: u8 = 15;
    /// The name follows, with its length.
    pub(super) const BARE_VARIANT: u8 = 16;
    /// The name follows, with its length, and what the variant holds as a value.
    pub(super) const VARIANT: u8 = 17;
    /// The highest bit of a small unsigned integer, whose other seven bits are the value.
    pub(super) const SMALL: u8 = 0x80;
}

/// Runs `body` with room on the stack for one level more.
fn grown<T>(body: impl FnOnce() -> T) -> T {
    /// What one level of a debug build takes, with what the user's code takes on top.
    const RED_ZONE: usize = 128 << 10;
    const PIECE: usize = 2 << 20;
    stacker::maybe_grow(RED_ZONE, PIECE, body)
}

#[cfg(test)]
mod tests;
