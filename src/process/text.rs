//! Where bytes may be cut so that no character is.

/// A longer line is handed on in pieces.
pub(crate) const LONGEST_LINE: usize = 64 * 1024;

/// Of the bytes of a character in UTF-8, all but the first.
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

/// How much of it there is without a character that is begun at the end and not complete. All of it, where it is no UTF-8.
pub(crate) fn complete(bytes: &[u8]) -> usize {
    let (at, first) = match bytes.iter().enumerate().rev().take(4).find(|(_, byte)| !is_continuation(**byte)) {
        Some(found) => found,
        None => return bytes.len(),
    };
    if at + length(*first) > bytes.len() { at } else { bytes.len() }
}

/// Where the first whole character begins, of bytes whose beginning was cut off. At 0, where it is no UTF-8.
pub(crate) fn first_whole(bytes: &[u8]) -> usize {
    let cut = bytes.iter().take_while(|byte| is_continuation(**byte)).take(4).count();
    if cut < 4 { cut } else { 0 }
}

/// Bytes come in, lines come out: without their ends, as text, with a replacement character for whatever is not UTF-8.
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
        for mut piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            while self.begun.len() + piece.len() > self.longest {
                let (now, later) = piece.split_at(self.longest - self.begun.len());
                self.begun.extend_from_slice(now);
                piece = later;
                let begun = std::mem::take(&mut self.begun);
                let cut = complete(&begun);
                say(&begun[..cut], &mut line);
                self.begun.extend_from_slice(&begun[cut..]);
            }
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.finish(&mut line);
            }
        }
    }

    /// What there is of a line, as one.
    pub(crate) fn finish(&mut self, line: impl FnMut(&str)) {
        if !self.begun.is_empty() {
            say(&std::mem::take(&mut self.begun), line);
        }
    }
}

fn say(bytes: &[u8], mut line: impl FnMut(&str)) {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    line(&String::from_utf8_lossy(bytes));
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
