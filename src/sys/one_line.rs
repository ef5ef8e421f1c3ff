//! Text of others (names, errors, panics, what a worker prints) where people read it, in log records and trees: on one line, in the order in which it is written.
//!
//! [`leaves_its_line`] says what may not stand there, and is asked by nobody but these: [`on_one_line`] for text, [`OneLine`] for what is still to be written, and labels
//! of events, which are cut as well.

use crate::sys::panics;
use std::borrow::Cow;
use std::fmt::{self, Write};

/// What would tear a line apart, or show it in another order than it is written: a text that makes the rest of its line look like something else. Control characters,
/// which begin a terminal's escapes; separators of lines and paragraphs; marks, embeddings, overrides and isolates of bidirectional text.
pub(crate) fn leaves_its_line(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}')
}

/// A text as it is shown: a space for each character that would leave the line, and none of them at the end.
pub(crate) fn on_one_line(text: &str) -> Cow<'_, str> {
    let text = text.trim_end_matches(leaves_its_line);
    if !text.contains(leaves_its_line) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if leaves_its_line(c) { ' ' } else { c }).collect())
}

/// Shows a value on one line, as it is written piece by piece. Its `Display` is the code of others: one that panics, or fails, ends the text, which then says so.
pub(crate) struct OneLine<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Line { to: f, spaces: 0, broken: false };
        let written = panics::catch(|| write!(line, "{}", self.0));
        match written {
            _ if line.broken => Err(fmt::Error),
            Ok(Ok(())) => Ok(()),
            Ok(Err(fmt::Error)) => line.write_str(" (its text failed)"),
            Err(panic) => write!(line, " (its text panicked: {panic})"),
        }
    }
}

struct Line<'a, 'f> {
    to: &'a mut fmt::Formatter<'f>,
    /// To be written before anything else is.
    spaces: usize,
    /// The formatter takes no more, whatever is written.
    broken: bool,
}

impl Line<'_, '_> {
    fn put(&mut self, text: &str) -> fmt::Result {
        let spaces = std::mem::take(&mut self.spaces);
        let written = (0..spaces).try_for_each(|_| self.to.write_char(' ')).and_then(|()| self.to.write_str(text));
        self.broken |= written.is_err();
        written
    }
}

impl fmt::Write for Line<'_, '_> {
    fn write_str(&mut self, mut text: &str) -> fmt::Result {
        while let Some((at, c)) = text.char_indices().find(|(_, c)| leaves_its_line(*c)) {
            if at > 0 {
                self.put(&text[..at])?;
            }
            self.spaces += 1;
            text = &text[at + c.len_utf8()..];
        }
        if text.is_empty() { Ok(()) } else { self.put(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Odd(&'static str, bool);

    impl fmt::Display for Odd {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)?;
            if self.1 { panic!("on\npurpose") } else { Err(fmt::Error) }
        }
    }

    #[test]
    fn text_stays_on_its_line() {
        for (text, shown) in [
            ("", ""),
            ("plain text, größer 😀", "plain text, größer 😀"),
            ("a\nb\r\n\tc\n", "a b   c"),
            ("\u{1b}[31mred\u{1b}[0m", " [31mred [0m"),
            ("a\u{202e}b\u{2066}c\u{200f}d\u{61c}e\u{2028}f\u{85}g", "a b c d e f g"),
            ("\n\n", ""),
            // What joins and separates letters of one word is part of it.
            ("👩\u{200d}💻 می\u{200c}خواهم", "👩\u{200d}💻 می\u{200c}خواهم"),
        ] {
            assert_eq!(on_one_line(text), shown);
            assert_eq!(OneLine(text).to_string(), shown);
        }
    }

    #[test]
    fn text_that_panics_or_fails_says_so() {
        assert_eq!(OneLine(Odd("half\n", false)).to_string(), "half  (its text failed)");
        assert_eq!(OneLine(Odd("half", true)).to_string(), "half (its text panicked: on purpose)");
    }

    #[test]
    fn what_takes_no_more_is_not_the_texts_fault() {
        struct Full;
        impl fmt::Write for Full {
            fn write_str(&mut self, _: &str) -> fmt::Result {
                Err(fmt::Error)
            }
        }
        assert!(write!(Full, "{}", OneLine("text")).is_err());
    }
}
