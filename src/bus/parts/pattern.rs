//! Names to register by: one that no event is called by is told, for its handler waits in vain.

use crate::bus::parts::registry::WILDCARD;

/// Why no event is called like that, as far as one can tell: a type may say that it is.
pub(crate) fn never_matches(pattern: &str) -> Option<&'static str> {
    if pattern == WILDCARD {
        None
    } else if pattern.trim().is_empty() {
        Some("it is blank")
    } else if pattern.trim() != pattern {
        Some("it has blanks around it")
    } else if pattern.contains(char::is_control) {
        Some("it has control characters")
    } else if has_wildcard(pattern) {
        Some("it is taken as it is: a pattern is a whole name, or * alone for all")
    } else {
        None
    }
}

/// Names of types have a `*` in raw pointers only.
fn has_wildcard(pattern: &str) -> bool {
    let is_pointer = |rest: &str| rest.starts_with("const ") || rest.starts_with("mut ");
    pattern.match_indices('*').any(|(at, star)| !is_pointer(&pattern[at + star.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_types_are_fine_and_what_looks_like_a_pattern_is_not() {
        for name in
            ["*", "Note", "Wrapper<A, B>", "dyn Trait + Send", "Callback<fn(*const u8, *mut u8)>", "größe", "a.b"]
        {
            assert_eq!(never_matches(name), None, "{name}");
        }
        for name in ["", " ", "\t", "Note ", " Note", "Note\n", "No\u{1b}te", "Note*", "*Note", "**", "No*te", "*const"]
        {
            assert!(never_matches(name).is_some(), "{name:?}");
        }
    }
}
