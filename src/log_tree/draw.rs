//! The tree as lines.

use crate::bus::{Node, Sign, Tree};
use crate::log_tree::style::TreeStyle;

/// Deeper than this, a line starts with the number of levels left out, and shows the last few only.
const DEEPEST: usize = 8;
const SHOWN: usize = 5;
/// Where something was cut.
const ELLIPSIS: &str = "…";

pub(crate) fn draw(title: Option<&str>, tree: &Tree, style: &TreeStyle) -> String {
    let mut text = String::new();
    if let Some(title) = title {
        text.push_str(&cut(title, style.width));
        text.push('\n');
    }
    // For every level down to the line's own: whether the branch there was the last one.
    let mut lasts: Vec<bool> = Vec::new();
    let mut pending: Vec<(usize, usize, bool)> = Vec::new();
    push(&mut pending, &tree.roots, 0);
    while let Some((place, level, last)) = pending.pop() {
        let node = &tree.nodes[place];
        lasts.truncate(level);
        lasts.push(last);
        draw_node(&mut text, node, &lasts, style);
        push(&mut pending, &node.children, level + 1);
    }
    text
}

fn push(pending: &mut Vec<(usize, usize, bool)>, children: &[usize], level: usize) {
    let numbered = children.iter().enumerate().rev();
    pending.extend(numbered.map(|(n, child)| (*child, level, n + 1 == children.len())));
}

/// One line; two if the result does not fit behind the rest.
fn draw_node(text: &mut String, node: &Node, lasts: &[bool], style: &TreeStyle) {
    let Some((&last, above)) = lasts.split_last() else { return };
    let stem = stem(above);
    let connector = if last { "└── " } else { "├── " };
    let room = style.width.saturating_sub(columns(&stem) + 4 + 3);
    let at = if style.times { node.time.as_str() } else { "" };
    let time = columns(at) + usize::from(!at.is_empty());
    let name = cut_middle(if style.ids { &node.label } else { &node.name }, room.saturating_sub(time).max(8));
    let fits = columns(&name) + time + columns(&node.result) <= room;
    let paint = Paint(style.colour);

    text.push_str(&stem);
    text.push_str(connector);
    text.push_str(sign(node.sign));
    text.push(' ');
    paint.put(text, colour(node.sign), &name);
    if !at.is_empty() {
        text.push(' ');
        paint.put(text, DIM, at);
    }
    if fits {
        paint.put(text, colour(node.sign), &node.result);
    }
    text.push('\n');
    if !fits {
        text.push_str(&stem);
        text.push_str(if last { "    " } else { "│   " });
        // The line under a handler that has emitted something goes on beside its branch.
        text.push_str(if node.children.is_empty() { "   " } else { "│  " });
        let result = node.result.trim_start_matches([':', ' ']);
        paint.put(text, colour(node.sign), &cut(result, room));
        text.push('\n');
    }
}

fn stem(lasts: &[bool]) -> String {
    let bars = |lasts: &[bool]| lasts.iter().map(|last| if *last { "    " } else { "│   " }).collect::<String>();
    if lasts.len() <= DEEPEST {
        return bars(lasts);
    }
    let hidden = lasts.len() - SHOWN;
    format!("{:<8}{}", format!("(+{hidden})"), bars(&lasts[hidden..]))
}

fn sign(sign: Sign) -> &'static str {
    match sign {
        Sign::Waiting => "⏳",
        Sign::Running => "🏃",
        Sign::Done => "✅",
        Sign::Failed => "❌",
        Sign::TimedOut => "⏰",
        Sign::Cancelled => "🚫",
        Sign::GivenUp => "🛑",
    }
}

const DIM: &str = "2";

fn colour(sign: Sign) -> &'static str {
    match sign {
        Sign::Done => "",
        Sign::Waiting | Sign::Cancelled => DIM,
        Sign::Running => "36",
        Sign::Failed => "31",
        Sign::TimedOut | Sign::GivenUp => "33",
    }
}

/// Colours, if wanted.
struct Paint(bool);

impl Paint {
    fn put(&self, text: &mut String, colour: &str, what: &str) {
        if !self.0 || colour.is_empty() || what.is_empty() {
            text.push_str(what);
            return;
        }
        for part in ["\x1b[", colour, "m", what, "\x1b[0m"] {
            text.push_str(part);
        }
    }
}

/// How many columns a terminal needs, as far as that can be known without tables.
fn columns(text: &str) -> usize {
    text.chars().map(width).sum()
}

fn width(c: char) -> usize {
    match u32::from(c) {
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 => 2,
        0x231a..=0x231b | 0x23e9..=0x23f3 | 0x2705 | 0x274c | 0x1f300..=0x1faff | 0x20000..=0x3ffff => 2,
        0x0300..=0x036f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        _ => 1,
    }
}

/// The beginning of a text too long for its place.
fn cut(text: &str, room: usize) -> String {
    if columns(text) <= room {
        return text.to_owned();
    }
    take(text.chars(), room.saturating_sub(1)) + ELLIPSIS
}

/// Both ends of a name too long for its place: the last of it holds the id.
fn cut_middle(text: &str, room: usize) -> String {
    if columns(text) <= room {
        return text.to_owned();
    }
    let end = room.saturating_sub(1) * 2 / 3;
    let tail: String = take(text.chars().rev(), end).chars().rev().collect();
    take(text.chars(), room.saturating_sub(1 + end)) + ELLIPSIS + &tail
}

fn take(chars: impl Iterator<Item = char>, room: usize) -> String {
    let mut left = room;
    let fits = |c: &char| {
        let fits = width(*c) <= left;
        left = if fits { left - width(*c) } else { 0 };
        fits
    };
    chars.take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, result: &str, children: &[usize]) -> Node {
        let (name, result) = (name.to_owned(), result.to_owned());
        Node { sign: Sign::Done, label: name.clone(), name, time: String::new(), result, children: children.to_vec() }
    }

    #[test]
    fn what_does_not_fit_goes_below() {
        let long = ": ".to_owned() + &"x".repeat(70);
        let nodes = vec![
            node("root", "", &[1, 2]),
            node("bus.first", &long, &[3]),
            node("bus.second", &long, &[]),
            node("child", "", &[]),
        ];
        let text = draw(Some("title"), &Tree { nodes, roots: vec![0], ..Tree::default() }, &TreeStyle::new());
        let expected = format!(
            "title\n└── ✅ root\n    ├── ✅ bus.first\n    │   │  {0}\n    │   └── ✅ child\n    └── ✅ bus.second\n           {0}\n",
            "x".repeat(68) + "…"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn no_line_is_too_wide_however_deep_it_is() {
        let depth = 12_000;
        let name = |n: usize| format!("{}{n}#1234", "very::long::Name<of::A, Type>".repeat(n % 5));
        let last = node(&name(depth), &": 漢字 ".repeat(50), &[]);
        let nodes = (0..depth).map(|n| node(&name(n), "", &[n + 1])).chain([last]).collect();
        let text = draw(None, &Tree { nodes, roots: vec![0], ..Tree::default() }, &TreeStyle::new());
        assert!(text.lines().all(|line| columns(line) <= 80));
        assert!(text.lines().all(|line| line.ends_with("#1234") || line.ends_with(ELLIPSIS)));
        assert_eq!(text.lines().count(), depth + 2);
    }

    #[test]
    fn colours_are_taken_back() {
        let nodes = vec![Node { sign: Sign::Failed, time: "[now]".to_owned(), ..node("bad", ": why", &[]) }];
        let tree = Tree { nodes, roots: vec![0], ..Tree::default() };
        let coloured = draw(None, &tree, &TreeStyle::new().colour(true));
        assert_eq!(coloured, "└── ❌ \x1b[31mbad\x1b[0m \x1b[2m[now]\x1b[0m\x1b[31m: why\x1b[0m\n");
        assert_eq!(draw(None, &tree, &TreeStyle::new()), "└── ❌ bad [now]: why\n");
    }
}
