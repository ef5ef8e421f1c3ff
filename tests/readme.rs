//! README.md is made from `docs/readme.md`: the same without the lines that rustdoc hides, since a web page would show them.
//! `THREADBUS_WRITE_README=1 cargo test --test readme` makes it anew.

/// What a reader of the web page sees.
fn shown(source: &str) -> String {
    let (mut shown, mut in_rust) = (String::new(), false);
    for line in source.lines() {
        if let Some(language) = line.strip_prefix("```") {
            in_rust = language.starts_with("rust");
        }
        if in_rust && (line == "#" || line.starts_with("# ")) {
            continue;
        }
        shown.push_str(line);
        shown.push('\n');
    }
    shown
}

#[test]
fn the_readme_shows_no_hidden_lines() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = std::fs::read_to_string(root.join("docs/readme.md")).expect("it is there");
    let expected = shown(&source);
    if std::env::var_os("THREADBUS_WRITE_README").is_some() {
        std::fs::write(root.join("README.md"), &expected).expect("it may be written");
    }
    let readme = std::fs::read_to_string(root.join("README.md")).expect("it is there");
    let at = readme.lines().zip(expected.lines()).position(|(is, should)| is != should);
    let at = at.or_else(|| (readme != expected).then(|| readme.lines().count().min(expected.lines().count())));
    assert!(
        at.is_none(),
        "README.md differs from docs/readme.md at its line {}: change that one, then THREADBUS_WRITE_README=1 cargo test --test readme",
        at.map_or(0, |at| at + 1)
    );
}

#[test]
fn what_looks_like_a_hidden_line_elsewhere_stays() {
    let source = "# A title\n```rust\nlet a = 1;\n# drop(a);\n#[cfg(x)]\n#\n```\n# Another\n```sh\n# a comment\n```\n";
    let expected = "# A title\n```rust\nlet a = 1;\n#[cfg(x)]\n```\n# Another\n```sh\n# a comment\n```\n";
    assert_eq!(shown(source), expected);
}
