//! Type names as people write them: without the paths that `std::any::type_name` adds.

use std::any::type_name;
use std::sync::OnceLock;

/// `Wrapper<B>` for `my::Wrapper<a::B>`. Cheap enough for every emit: a name without generics is a part of the long one,
/// any other is shortened once in the life of the process and looked up afterwards.
pub(crate) fn short_type_name<T: ?Sized>() -> &'static str {
    shorten(type_name::<T>())
}

/// As [`short_type_name`], for a name that is already at hand.
pub(crate) fn shorten(full: &'static str) -> &'static str {
    // Byte by byte: what `rfind` prepares for a search takes several times as long as such a name.
    match full.as_bytes().windows(2).rposition(|two| two == b"::") {
        None => full,
        Some(end_of_path) if full.bytes().all(is_plain) => full.get(end_of_path + 2..).unwrap_or(full),
        Some(_) => cached(full),
    }
}

/// Whether a name of only such characters is one path and nothing else.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':') || !byte.is_ascii()
}

/// One entry of a list that only grows: readers need no lock, and of two writers one wins and the other goes on behind it.
struct Entry {
    full: &'static str,
    short: &'static str,
    next: Next,
}
type Next = OnceLock<&'static Entry>;

/// Few programs have more than a handful of generic event types, so lists stay short.
const LISTS: usize = 64;
static TABLE: [Next; LISTS] = [const { Next::new() }; LISTS];

fn cached(full: &'static str) -> &'static str {
    let mut next = list_of(full);
    loop {
        let entry: &'static Entry = next.get_or_init(|| {
            // Leaked on purpose: one short text per type, and only by the thread that enters it.
            Box::leak(Box::new(Entry {
                full,
                short: Box::leak(without_paths(full).into_boxed_str()),
                next: Next::new(),
            }))
        });
        // Equal names may lie at different addresses, so a different address alone proves nothing.
        if std::ptr::eq(entry.full, full) || entry.full == full {
            return entry.short;
        }
        next = &entry.next;
    }
}

/// FNV-1a: the names are few, trusted and short.
fn list_of(full: &str) -> &'static Next {
    let hash = full
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // High and low bits together: the last characters of generic names are alike.
    let index = usize::try_from((hash ^ (hash >> 32)) % 64).unwrap_or_default();
    TABLE.get(index).unwrap_or(&TABLE[0])
}

/// Keeps of every path its last segment: of those inside generics, tuples, references, arrays and function pointers too.
fn without_paths(full: &str) -> String {
    let mut short = String::with_capacity(full.len());
    // Where the path being read began in `short`, and where those around it did.
    let mut path_start = 0;
    let mut around = Vec::new();
    let mut rest = full;
    while let Some(char) = rest.chars().next() {
        let mut width = char.len_utf8();
        match char {
            ':' if rest.starts_with("::") => {
                // All before it was only the way, generics included: `<A as B>::f::Local` is `Local`.
                short.truncate(path_start);
                width = 2;
            }
            '<' => {
                around.push(path_start);
                short.push('<');
                path_start = short.len();
            }
            '>' if !short.ends_with('-') => {
                path_start = around.pop().unwrap_or(path_start);
                short.push('>');
            }
            _ if char.is_alphanumeric() || matches!(char, '_' | '{' | '}' | '#') => short.push(char),
            _ => {
                short.push(char);
                path_start = short.len();
            }
        }
        rest = rest.get(width..).unwrap_or_default();
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tick;
    struct Wrapper<T>(std::marker::PhantomData<T>);

    #[test]
    fn paths_go_at_every_level() {
        for (full, short) in [
            ("u8", "u8"),
            ("my::deep::Tick", "Tick"),
            ("my::Wrapper<a::B>", "Wrapper<B>"),
            ("Wrapper<B>", "Wrapper<B>"),
            ("my::Pair<a::B, c::D<e::F>>", "Pair<B, D<F>>"),
            ("(a::B, [c::D; 3], &e::F)", "(B, [D; 3], &F)"),
            ("alloc::vec::Vec<(a::B, c::D)>", "Vec<(B, D)>"),
            ("dyn a::Trait<Item = b::C> + core::marker::Send", "dyn Trait<Item = C> + Send"),
            ("fn(a::B) -> c::D", "fn(B) -> D"),
            ("my::Callback<fn(a::B) -> c::D>", "Callback<fn(B) -> D>"),
            ("<my::Kind as a::Trait<b::C>>::run::Local", "Local"),
            ("my::Kind<a::B>::run::Local<c::D>", "Local<D>"),
            ("my::run::{{closure}}::Local", "Local"),
            ("my::run::{{closure}}", "{{closure}}"),
            ("my::größe::Maß<a::Ü>", "Maß<Ü>"),
            ("::a", "a"),
            ("a<b>>::c", "c"),
            ("", ""),
        ] {
            assert_eq!(without_paths(full), short, "{full}");
            assert_eq!(shorten(full), short, "{full}");
        }
    }

    #[test]
    fn real_types() {
        assert_eq!(short_type_name::<Tick>(), "Tick");
        assert_eq!(short_type_name::<Wrapper<Option<Tick>>>(), "Wrapper<Option<Tick>>");
        assert_eq!(short_type_name::<()>(), "()");
        assert_eq!(short_type_name::<str>(), "str");
    }

    #[test]
    fn a_shortened_name_is_made_once() {
        let copy: &'static str = Box::leak(String::from(type_name::<Wrapper<Tick>>()).into_boxed_str());
        assert!(std::ptr::eq(short_type_name::<Wrapper<Tick>>(), shorten(copy)));
    }

    #[test]
    fn many_names_and_threads_do_not_disturb_each_other() {
        let names: Vec<&'static str> =
            (0..500).map(|n| &*Box::leak(format!("a::Many<b::N{n}>").into_boxed_str())).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for (n, name) in names.iter().enumerate() {
                        assert_eq!(shorten(name), format!("Many<N{n}>"));
                    }
                });
            }
        });
    }
}
