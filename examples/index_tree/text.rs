//! Lines and words of a text that comes in pieces, cut anywhere.

use crate::events::NotUtf8;
use std::str::from_utf8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TextCounts {
    pub(crate) lines: u64,
    pub(crate) words: u64,
}

/// A word that spans pieces counts once; a character cut by a border is carried over to the next piece.
#[derive(Debug, Default)]
pub(crate) struct TextCounter {
    counts: TextCounts,
    in_word: bool,
    /// The start of a character whose end has not come yet: at most three bytes.
    carry: Vec<u8>,
    /// Bytes before the carry, all of them valid.
    offset: u64,
}

impl TextCounter {
    /// Fails at the first byte that no following piece can make valid.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), NotUtf8> {
        let rest = self.complete_carry(piece)?;
        self.count_bytes(rest)
    }

    /// Fails if the text ends within a character.
    pub(crate) fn finish(self) -> Result<TextCounts, NotUtf8> {
        if self.carry.is_empty() { Ok(self.counts) } else { Err(NotUtf8 { offset: self.offset }) }
    }

    /// Feeds the carried character byte by byte until it is whole; what is left of the piece.
    fn complete_carry<'a>(&mut self, mut piece: &'a [u8]) -> Result<&'a [u8], NotUtf8> {
        while !self.carry.is_empty() {
            let Some((&next, rest)) = piece.split_first() else { break };
            let mut character = std::mem::take(&mut self.carry);
            character.push(next);
            self.count_bytes(&character)?;
            piece = rest;
        }
        Ok(piece)
    }

    fn count_bytes(&mut self, bytes: &[u8]) -> Result<(), NotUtf8> {
        let Err(error) = from_utf8(bytes).map(|text| self.count(text)) else { return Ok(()) };
        let (valid, rest) = bytes.split_at(error.valid_up_to());
        if error.error_len().is_some() {
            return Err(NotUtf8 { offset: self.offset + valid.len() as u64 });
        }
        self.carry.extend_from_slice(rest);
        self.count_bytes(valid)
    }

    fn count(&mut self, text: &str) {
        self.offset += text.len() as u64;
        for character in text.chars() {
            let space = character.is_whitespace();
            self.counts.lines += u64::from(character == '\n');
            self.counts.words += u64::from(!space && !self.in_word);
            self.in_word = !space;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<TextCounts, NotUtf8> {
        let mut counter = TextCounter::default();
        pieces.into_iter().try_for_each(|piece| counter.push(piece))?;
        counter.finish()
    }

    #[test]
    fn every_cut_gives_the_same_counts() {
        let text = "naïve\u{2003}日本 🦀🦀\r\n\n x\u{a0}y\t";
        let whole = TextCounts { lines: 2, words: 5 };
        for size in 1..=text.len() {
            assert_eq!(in_pieces(text.as_bytes().chunks(size)), Ok(whole), "pieces of {size}");
        }
        for (first, second) in (0..text.len()).flat_map(|a| (a..text.len()).map(move |b| (a, b))) {
            let (start, end) = text.as_bytes().split_at(second);
            let (start, middle) = start.split_at(first);
            assert_eq!(in_pieces([start, middle, end]), Ok(whole), "cut at {first} and {second}");
        }
    }

    #[test]
    fn an_error_has_the_offset_that_std_gives_wherever_it_is_cut() {
        let bad: [&[u8]; 8] = [
            b"ok \xff",
            b"\x80",
            b"a\xc3",
            b"a\xc3(",
            b"\xe2\x82 x",
            b"\xf0\x9f\xa6",
            b"surrogate \xed\xa0\x80",
            b"overlong \xc0\xaf",
        ];
        for bytes in bad {
            let offset = from_utf8(bytes).map_err(|e| e.valid_up_to() as u64).unwrap_err();
            for size in 1..=bytes.len() {
                assert_eq!(in_pieces(bytes.chunks(size)), Err(NotUtf8 { offset }), "{bytes:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn nothing_has_no_lines_and_an_unfinished_line_does_not_count() {
        assert_eq!(in_pieces([]), Ok(TextCounts::default()));
        assert_eq!(in_pieces([&b""[..], b"", b"a b"]), Ok(TextCounts { lines: 0, words: 2 }));
    }
}
