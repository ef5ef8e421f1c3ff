//! The end of what a command wrote, as a failure shows it.

use super::text;
use std::fmt;

/// How many bytes of each stream a failure shows.
pub(crate) const SHOWN: usize = 4 * 1024;

/// Writes `, which wrote "…"`, with the end of each stream; nothing if the command wrote nothing. `first` is what comes before that: `, which`.
pub(crate) fn show(
    f: &mut fmt::Formatter<'_>,
    first: &str,
    (stdout, lost): (&[u8], u64),
    (stderr, lost_errors): (&[u8], u64),
) -> fmt::Result {
    let mut and = first;
    for (bytes, lost, what) in [(stdout, lost, "wrote"), (stderr, lost_errors, "wrote to its error output")] {
        if bytes.is_empty() {
            continue;
        }
        let cut = bytes.len().saturating_sub(SHOWN);
        let end = &bytes[cut..];
        let end = if cut > 0 { &end[text::first_whole(end)..] } else { end };
        let more = if cut > 0 || lost > 0 { "…" } else { "" };
        write!(f, "{and} {what} {more}{:?}", String::from_utf8_lossy(end))?;
        and = " and";
    }
    Ok(())
}
