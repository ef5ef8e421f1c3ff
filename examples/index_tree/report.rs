//! The end of the run, as tables for people or as one JSON object for machines.

use crate::index::{Copies, Counts, Index};
use crate::pipeline::EventCounts;
use serde::Serialize;
use std::cmp::Reverse;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// Groups of duplicates that are shown, those that waste most.
const TOP_GROUPS: usize = 10;
/// Rows and paths in the tables; the JSON has all of them.
const TYPE_ROWS: usize = 30;
const GROUP_PATHS: usize = 3;
/// Longer file types are cut.
const TYPE_WIDTH: usize = 16;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    root: String,
    pub(crate) interrupted: bool,
    seconds: f64,
    /// Regular files found; those in the tables are `indexed.files`, the others `failed`.
    files: u64,
    failed: u64,
    unlisted: u64,
    skipped: u64,
    indexed: Counts,
    types: Vec<TypeRow>,
    duplicates: Duplicates,
    failures: Vec<FailureRow>,
    events: Events,
}

#[derive(Debug, Serialize)]
struct TypeRow {
    #[serde(rename = "type")]
    name: String,
    #[serde(flatten)]
    counts: Counts,
}

/// `files` counts all members of all groups, `wasted_bytes` all but one of each.
#[derive(Debug, Serialize)]
struct Duplicates {
    groups: usize,
    files: usize,
    wasted_bytes: u64,
    top: Vec<Group>,
}

#[derive(Debug, Serialize)]
struct Group {
    hash: String,
    bytes: u64,
    files: usize,
    wasted_bytes: u64,
    paths: Vec<String>,
}

#[derive(Debug, Serialize)]
struct FailureRow {
    reason: String,
    count: u64,
    examples: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Events {
    total: u64,
    per_second: f64,
    by_type: EventCounts,
}

impl Report {
    pub(crate) fn new(root: &Path, index: Index, events: EventCounts, elapsed: Duration, interrupted: bool) -> Self {
        let mut indexed = Counts::default();
        index.types.values().for_each(|counts| indexed.add(*counts));
        let mut failures: Vec<_> = index
            .failures
            .into_iter()
            .map(|(reason, found)| FailureRow { reason, count: found.count, examples: found.examples })
            .collect();
        failures.sort_by_key(|row| Reverse(row.count));
        Report {
            root: root.to_string_lossy().into_owned(),
            interrupted,
            seconds: elapsed.as_secs_f64(),
            files: indexed.files + index.failed_files,
            failed: index.failed_files,
            unlisted: index.unlisted,
            skipped: index.skipped,
            indexed,
            types: type_rows(index.types),
            duplicates: Duplicates::new(&index.contents),
            failures,
            events: Events::new(events, elapsed),
        }
    }

    pub(crate) fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)
    }

    pub(crate) fn write_tables(&self, out: &mut dyn Write) -> io::Result<()> {
        self.write_summary(out)?;
        self.write_types(out)?;
        self.duplicates.write(out)?;
        self.write_failures(out)?;
        self.events.write(out, self.seconds)
    }

    fn write_summary(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.interrupted {
            writeln!(out, "Interrupted: what follows is a part of the tree.")?;
        }
        writeln!(out, "{}: {} files in {:.1} s", printable(&self.root), self.files, self.seconds)?;
        let (indexed, failed, skipped, unlisted) = (self.indexed.files, self.failed, self.skipped, self.unlisted);
        writeln!(
            out,
            "{indexed} indexed, {failed} failed; {skipped} that are no files skipped, {unlisted} directories not listed"
        )
    }

    fn write_types(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = |out: &mut dyn Write, name: &str, counts: &Counts| {
            let Counts { files, lines, words, bytes } = counts;
            writeln!(out, "{name:<TYPE_WIDTH$} {files:>9} {lines:>12} {words:>12} {bytes:>14}")
        };
        writeln!(out, "\n{:<TYPE_WIDTH$} {:>9} {:>12} {:>12} {:>14}", "TYPE", "FILES", "LINES", "WORDS", "BYTES")?;
        let (shown, others) = self.types.split_at(TYPE_ROWS.min(self.types.len()));
        for TypeRow { name, counts } in shown {
            row(out, &type_name(name), counts)?;
        }
        if !others.is_empty() {
            let mut sum = Counts::default();
            others.iter().for_each(|other| sum.add(other.counts));
            row(out, &format!("({} more)", others.len()), &sum)?;
        }
        row(out, "total", &self.indexed)
    }

    fn write_failures(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "\nFailures: {}", self.failed + self.unlisted)?;
        for FailureRow { reason, count, examples } in &self.failures {
            writeln!(out, "{count:>10}  {}", printable(reason))?;
            for example in examples {
                writeln!(out, "{:12}{}", "", printable(example))?;
            }
        }
        Ok(())
    }
}

/// Those with the most files first.
fn type_rows(types: impl IntoIterator<Item = (String, Counts)>) -> Vec<TypeRow> {
    let mut rows: Vec<_> = types.into_iter().map(|(name, counts)| TypeRow { name, counts }).collect();
    rows.sort_by_key(|row| Reverse(row.counts.files));
    rows
}

fn type_name(name: &str) -> String {
    match name.char_indices().nth(TYPE_WIDTH - 1) {
        _ if name.is_empty() => "(none)".to_owned(),
        Some((end, _)) if name.chars().count() > TYPE_WIDTH => format!("{}…", printable(&name[..end])),
        _ => printable(name),
    }
}

/// Names of files may hold anything, a terminal must not.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

impl Duplicates {
    fn new(contents: &std::collections::HashMap<blake3::Hash, Copies>) -> Self {
        let mut groups: Vec<_> = contents.iter().filter(|(_, copies)| !copies.others.is_empty()).collect();
        groups.sort_by_key(|(hash, copies)| (Reverse(copies.wasted_bytes()), *hash.as_bytes()));
        Duplicates {
            groups: groups.len(),
            files: groups.iter().map(|(_, copies)| copies.paths().count()).sum(),
            wasted_bytes: groups.iter().map(|(_, copies)| copies.wasted_bytes()).sum(),
            top: groups.into_iter().take(TOP_GROUPS).map(|(hash, copies)| Group::new(hash, copies)).collect(),
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Duplicates { groups, files, wasted_bytes, top } = self;
        writeln!(out, "\nDuplicates: {groups} groups with {files} files, {wasted_bytes} bytes wasted")?;
        for Group { bytes, files, wasted_bytes, paths, .. } in top {
            writeln!(out, "{wasted_bytes:>14} wasted: {files} files of {bytes} bytes")?;
            for path in paths.iter().take(GROUP_PATHS) {
                writeln!(out, "{:16}{}", "", printable(path))?;
            }
        }
        Ok(())
    }
}

impl Group {
    fn new(hash: &blake3::Hash, copies: &Copies) -> Self {
        let mut paths: Vec<_> = copies.paths().map(|path| path.to_string_lossy().into_owned()).collect();
        paths.sort_unstable();
        let wasted_bytes = copies.wasted_bytes();
        Group { hash: hash.to_hex().to_string(), bytes: copies.bytes, files: paths.len(), wasted_bytes, paths }
    }
}

impl Copies {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&*self.first).chain(self.others.iter().map(|path| &**path))
    }

    fn wasted_bytes(&self) -> u64 {
        self.bytes * self.others.len() as u64
    }
}

impl Events {
    fn new(by_type: EventCounts, elapsed: Duration) -> Self {
        let total = by_type.values().sum();
        Events { total, per_second: total as f64 / elapsed.as_secs_f64(), by_type }
    }

    fn write(&self, out: &mut dyn Write, seconds: f64) -> io::Result<()> {
        let Events { total, per_second, by_type } = self;
        writeln!(out, "\nEvents: {total} in {seconds:.1} s, {per_second:.0} per second")?;
        by_type.iter().try_for_each(|(name, count)| writeln!(out, "{count:>10}  {name}"))
    }
}
