//! What is wrong with a value, and where in it.

use std::fmt;

/// A value that cannot be written, or read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Error {
    reason: Reason,
    /// The way to the value that is wrong, from the inside out.
    place: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    /// There are more bytes than there may be.
    TooLong,
    Said(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Name(String),
    Index(usize),
}

impl Error {
    pub(super) fn too_long() -> Self {
        Error { reason: Reason::TooLong, place: Vec::new() }
    }

    pub(super) fn said(reason: impl fmt::Display) -> Self {
        Error { reason: Reason::Said(reason.to_string()), place: Vec::new() }
    }

    pub(super) fn within(mut self, step: Step) -> Self {
        self.place.push(step);
        self
    }

    pub(super) fn in_field(self, name: &str) -> Self {
        self.within(Step::Name(name.to_owned()))
    }

    /// Whether nothing but the length is wrong.
    pub(crate) fn is_too_long(&self) -> bool {
        self.reason == Reason::TooLong
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// How many steps are shown at each end of a long way.
        const SHOWN: usize = 8;
        let steps = self.place.len();
        for (at, step) in self.place.iter().rev().enumerate() {
            match step {
                _ if at == SHOWN && steps > 2 * SHOWN => write!(f, "…{} more…", steps - 2 * SHOWN)?,
                _ if at > SHOWN && at < steps - SHOWN => {}
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Name(name) => write!(f, "{}{name}", if at == 0 { "" } else { "." })?,
            }
        }
        if steps > 0 {
            f.write_str(": ")?;
        }
        match &self.reason {
            Reason::TooLong => f.write_str("too long"),
            Reason::Said(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Error {}

impl serde::ser::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Error::said(message)
    }
}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Error::said(message)
    }
}
