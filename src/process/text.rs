//! Text in bytes that come in pieces: where it may be cut so that no character is, and its lines.

/// A command's line that is longer is handed on in pieces. In bytes.
pub(crate) const LONGEST_LINE: usize = 64 * 1024;

/// Whether the byte is one of a character in UTF-8, but not its first.
fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// How many bytes the character has that begins with this one.
fn length(first: u8) -> usize {
    match first {
        0b1100_0000..=0b1101_1111 => 2,
        0b1110_0000..=0b1110_1111 => 3,
        0b1111_0000..=0b1111_0111 => 4,
        _ => 1,
    }
}

/// How many of the bytes there are without a character that begins at their end and is not complete. All, where they are not UTF-8.
pub(crate) fn complete(bytes: &[u8]) -> usize {
    let (at, first) = match bytes.iter().enumerate().rev().take(4).find(|(_, byte)| !is_continuation(**byte)) {
        Some(found) => found,
        None => return bytes.len(),
    };
    if at + length(*first) > bytes.len() { at } else { bytes.len() }
}

/// Where the first whole character begins in bytes whose beginning was cut off. At 0, where they are not UTF-8.
pub(crate) fn first_whole(bytes: &[u8]) -> usize {
    let cut = bytes.iter().take_while(|byte| is_continuation(**byte)).take(4).count();
    if cut < 4 { cut } else { 0 }
}

/// Takes bytes and gives lines: without their ends, as text, with a replacement character for whatever is not UTF-8.
pub(crate) struct Lines {
    longest: usize,
    begun: Vec<u8>,
}

impl Lines {
    /// `longest`: in bytes. A longer line comes in pieces, none of which ends in the middle of a character.
    pub(crate) fn new(longest: usize) -> Self {
        Lines { longest: longest.max(4), begun: Vec::new() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (mut piece, ends) = match piece.strip_suffix(b"\n") {
                Some(piece) => (piece, true),
                None => (piece, false),
            };
            // A carriage return may belong to the end of the line, whose other half is not there yet.
            while self.begun.len() + piece.len() > self.longest + usize::from(ends_with_return(&self.begun, piece)) {
                let (now, later) = piece.split_at((self.longest.saturating_sub(self.begun.len())).min(piece.len()));
                self.begun.extend_from_slice(now);
                piece = later;
                let rest = self.begun.split_off(complete(&self.begun[..self.longest]));
                line(&String::from_utf8_lossy(&self.begun));
                self.begun = rest;
            }
            self.begun.extend_from_slice(piece);
            if ends {
                let begun = std::mem::take(&mut self.begun);
                line(&String::from_utf8_lossy(begun.strip_suffix(b"\r").unwrap_or(&begun)));
            }
        }
    }

    /// Gives what there is of a last line without an end.
    pub(crate) fn finish(&mut self, mut line: impl FnMut(&str)) {
        if !self.begun.is_empty() {
            line(&String::from_utf8_lossy(&std::mem::take(&mut self.begun)));
        }
    }
}

fn ends_with_return(begun: &[u8], piece: &[u8]) -> bool {
    piece.last().or(begun.last()) == Some(&b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_of_all_lengths_are_cut_between() {
        let text = "aé世😀b";
        for at in 0..=text.len() {
            let (before, after) = text.as_bytes().split_at(at);
            let floor = (0..=at).rev().find(|at| text.is_char_boundary(*at));
            let ceiling = (at..=text.len()).find(|at| text.is_char_boundary(*at));
            assert_eq!((Some(complete(before)), Some(at + first_whole(after))), (floor, ceiling), "{at}");
        }
    }

    #[test]
    fn what_is_no_text_is_left_as_it_is() {
        assert_eq!(complete(&[0x80; 9]), 9);
        assert_eq!(first_whole(&[0x80; 9]), 0);
        assert_eq!(complete(&[0xff, 0xfe]), 2);
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_one_and_pieces_lose_nothing() {
        let lines = |text: &str, step: usize| {
            let (mut lines, mut got) = (Lines::new(8), Vec::new());
            text.as_bytes().chunks(step).for_each(|piece| lines.push(piece, |line| got.push(line.to_owned())));
            lines.finish(|line| got.push(line.to_owned()));
            got
        };
        for step in [1, 2, 3, 100] {
            for length in [7, 8, 16] {
                let pieces = if length == 16 { 2 } else { 1 };
                for end in ["\n", "\r\n", ""] {
                    let line = "x".repeat(length);
                    let got = lines(&format!("{line}{end}"), step);
                    assert_eq!((got.concat(), got.len()), (line, pieces), "{length} {end:?} {step}");
                }
            }
            let inside = "1234567\r89\r\r\n";
            assert_eq!(lines(inside, step).concat(), "1234567\r89\r", "{step}");
        }
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_come() {
        let text = "eins\r\nzwei é世😀\n\n".to_owned() + &"世".repeat(20) + "\nlast";
        let lines = |pieces: &[&[u8]]| {
            let (mut lines, mut got) = (Lines::new(16), Vec::new());
            pieces.iter().for_each(|piece| lines.push(piece, |line| got.push(line.to_owned())));
            lines.finish(|line| got.push(line.to_owned()));
            got
        };
        let whole = lines(&[text.as_bytes()]);
        assert_eq!(whole[..3], ["eins", "zwei é世😀", ""]);
        assert_eq!(whole[3], "世".repeat(5));
        assert_eq!(whole.last().map(String::as_str), Some("last"));
        assert!(whole.iter().all(|line| line.len() <= 16 && !line.contains('\u{fffd}')), "{whole:?}");
        for at in 0..text.len() {
            assert_eq!(lines(&[&text.as_bytes()[..at], &text.as_bytes()[at..]]), whole, "{at}");
        }
        assert_eq!(lines(&text.as_bytes().chunks(1).collect::<Vec<_>>()), whole);
    }
}
