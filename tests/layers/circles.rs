//! Which file imports which, and where that goes in a circle. An import counts for the file that defines what is imported, however many
//! re-exports it comes through; a re-export itself does not count.

use crate::Source;
use crate::parse::{NamedPath, Parsed, module_of};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub(crate) struct Graph {
    /// Lines of each file, without its tests.
    lines: BTreeMap<String, usize>,
    arrows: BTreeMap<String, BTreeSet<String>>,
}

struct Files<'a> {
    by_module: BTreeMap<Vec<String>, &'a str>,
    parsed: BTreeMap<&'a str, Parsed>,
}

impl Graph {
    pub(crate) fn of(sources: &[Source]) -> Graph {
        let rust = || sources.iter().filter(|(file, text)| file.ends_with(".rs") && !text.is_empty());
        let all: BTreeMap<&str, Parsed> = rust().map(|(file, text)| (&**file, Parsed::new(file, text))).collect();
        let tests: BTreeSet<Vec<String>> = all.values().flat_map(|parsed| parsed.test_modules.clone()).collect();
        let is_test = |file: &str| (1..=module_of(file).len()).any(|length| tests.contains(&module_of(file)[..length]));
        let parsed: BTreeMap<&str, Parsed> = all.into_iter().filter(|(file, _)| !is_test(file)).collect();
        let by_module = parsed.keys().map(|file| (module_of(file), *file)).collect();
        let files = Files { by_module, parsed };
        let mut arrows = BTreeMap::new();
        for (file, parsed) in &files.parsed {
            let module = module_of(file);
            let targets = parsed.paths.iter().filter(|path| !path.is_public_import).filter_map(|path| {
                let absolute = files.absolute(&module, path)?;
                files.definition(&absolute, 0)
            });
            let targets: BTreeSet<String> =
                targets.filter(|target| target != file && *target != "lib.rs").map(str::to_owned).collect();
            arrows.insert((*file).to_owned(), targets);
        }
        arrows.remove("lib.rs");
        let lines = rust().map(|(file, text)| (file.clone(), lines_of(text)));
        Graph { lines: lines.filter(|(file, _)| arrows.contains_key(file)).collect(), arrows }
    }

    /// Files that import each other in a circle, each as one list.
    pub(crate) fn circles(&self) -> Vec<Vec<&str>> {
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            self.arrows.keys().map(|file| (&**file, self.reached_from(file))).collect();
        let mut left: BTreeSet<&str> =
            reached.iter().filter(|(file, to)| to.contains(*file)).map(|(f, _)| *f).collect();
        let mut circles = Vec::new();
        while let Some(first) = left.pop_first() {
            let with = |file: &&&str| reached[first].contains(**file) && reached[**file].contains(first);
            let others: Vec<&str> = left.iter().filter(with).copied().collect();
            left.retain(|file| !others.contains(file));
            circles.push([&[first][..], &others].concat());
        }
        circles
    }

    /// Imports within a room that go from one of its `folders` to a later one, or to a file beside them.
    pub(crate) fn climbs(&self, room: &str, folders: &[&str]) -> Vec<String> {
        let below = |file: &'_ str| file.strip_prefix(room)?.strip_prefix('/').map(str::to_owned);
        let height = |file: &str| match below(file)?.split_once('/') {
            Some((folder, _)) => folders.iter().position(|other| *other == folder),
            None => Some(folders.len()),
        };
        let mut found = Vec::new();
        for (file, targets) in self.arrows.iter().filter(|(file, _)| below(file).is_some()) {
            let Some(own) = height(file) else {
                found.push(format!("{file} is in no folder that is listed"));
                continue;
            };
            let higher = targets.iter().filter(|target| height(target).is_some_and(|height| height > own));
            found.extend(higher.map(|target| format!("{file} → {target}")));
        }
        found
    }

    fn reached_from(&self, file: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&str> = self.arrows[file].iter().map(|to| &**to).collect();
        while let Some(file) = next.pop() {
            if reached.insert(file) {
                next.extend(self.arrows.get(file).into_iter().flatten().map(|to| &**to));
            }
        }
        reached
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (file, targets) in &self.arrows {
            let targets = targets.iter().map(|to| &**to).collect::<Vec<_>>().join(" ");
            writeln!(f, "{file} ({}) → {targets}", self.lines[file])?;
        }
        let mut rooms: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (file, lines) in &self.lines {
            let room = rooms.entry(file.rsplit_once('/').map_or("", |(room, _)| room)).or_default();
            *room = (room.0 + 1, room.1 + lines);
        }
        for (room, (files, lines)) in rooms {
            writeln!(f, "{room}: {files} files, {lines} lines")?;
        }
        for circle in self.circles() {
            writeln!(f, "circle of {}: {}", circle.len(), circle.join(" "))?;
        }
        Ok(())
    }
}

impl Files<'_> {
    /// A path from the root of the crate, also for one that begins with a module below this one.
    fn absolute(&self, module: &[String], path: &NamedPath) -> Option<Vec<String>> {
        if let Some(absolute) = &path.absolute {
            return Some(absolute.clone());
        }
        let below = [module, &path.segments[..1]].concat();
        // A lone name is a variable or a field.
        (path.segments.len() > 1 && self.by_module.contains_key(&below)).then(|| [module, &path.segments].concat())
    }

    /// The file in which it is defined. `hops`: so many re-exports lead here.
    fn definition(&self, path: &[String], hops: usize) -> Option<&str> {
        let length = (0..=path.len()).rev().find(|length| self.by_module.contains_key(&path[..*length]))?;
        let file = self.by_module[&path[..length]];
        let Some(name) = path.get(length).filter(|_| hops < 8) else { return Some(file) };
        let module = &path[..length];
        let named = |import: &&NamedPath| {
            import.alias.as_ref().or(import.segments.last()) == Some(name) && import.is_public_import
        };
        let through = self.parsed[file].paths.iter().find(named).and_then(|import| self.absolute(module, import));
        match through {
            Some(target) if target != path => self.definition(&[&target[..], &path[length + 1..]].concat(), hops + 1),
            _ => Some(file),
        }
    }
}

/// Without blank lines, comments, and the tests at the end.
fn lines_of(text: &str) -> usize {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let code = code.split("#[cfg(all(test, not(threadbus_shuttle)))]\nmod ").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//")).count()
}
