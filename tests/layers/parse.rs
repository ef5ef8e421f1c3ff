//! Reads the paths that a Rust source names. Comments, strings and test code are left out.

/// `event/mod.rs` and `event.rs` are `event`, `lib.rs` is the root.
pub(crate) fn module_of(file: &str) -> Vec<String> {
    let stem = file.strip_suffix(".rs").map_or(file, |stem| stem.strip_suffix("/mod").unwrap_or(stem));
    let parts = stem.split('/').filter(|part| !part.is_empty()).map(str::to_owned);
    if file == "lib.rs" { Vec::new() } else { parts.collect() }
}

/// A path as it is written, one per leaf of an import.
pub(crate) struct NamedPath {
    pub(crate) segments: Vec<String>,
    /// Below the crate's root, for paths that begin with `crate`, `self` or `super`.
    pub(crate) absolute: Option<Vec<String>>,
    pub(crate) alias: Option<String>,
    pub(crate) glob: bool,
    pub(crate) is_macro: bool,
    pub(crate) ends_import: bool,
    /// Part of an import for others.
    pub(crate) is_public_import: bool,
    pub(crate) line: usize,
}

impl std::fmt::Display for NamedPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.segments.join("::"), if self.glob { "::*" } else { "" })
    }
}

pub(crate) struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

pub(crate) struct Parsed {
    pub(crate) paths: Vec<NamedPath>,
    /// Modules declared as `#[cfg(test)] mod name;`, whose files do not count.
    pub(crate) test_modules: Vec<Vec<String>>,
}

impl Parsed {
    pub(crate) fn new(file: &str, text: &str) -> Self {
        let mut parser = Parser {
            tokens: lex(text),
            at: 0,
            module: module_of(file),
            inline: Vec::new(),
            publishes: false,
            paths: Vec::new(),
        };
        let test_modules = parser.remove_tests();
        parser.find_paths();
        Parsed { paths: parser.paths, test_modules }
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    module: Vec<String>,
    /// Brace depths at which the inline modules at the end of `module` began.
    inline: Vec<usize>,
    /// Within `pub use …;`.
    publishes: bool,
    paths: Vec<NamedPath>,
}

impl Parser {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    fn matches(&self, at: usize, pattern: &[&str]) -> bool {
        pattern.iter().enumerate().all(|(offset, text)| self.text(at + offset) == *text)
    }

    /// Takes out every item under `#[cfg(test)]` or `#[cfg(all(test, …))]`; names the modules among them that are files.
    fn remove_tests(&mut self) -> Vec<Vec<String>> {
        let mut modules = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let inner = usize::from(self.text(at + 1) == "!");
            let attribute = at + 1 + inner;
            let test = [&["[", "cfg", "(", "test", ")"][..], &["[", "cfg", "(", "all", "(", "test", ","]];
            if self.text(at) != "#" || !test.iter().any(|pattern| self.matches(attribute, pattern)) {
                at += 1;
                continue;
            }
            let item = self.closing(attribute) + 1;
            let end = if inner == 1 { self.tokens.len() } else { self.item_end(item) };
            if let Some(module) = (item..end).find(|&i| self.text(i) == "mod" && self.text(i + 2) == ";") {
                modules.push([&self.module[..], &[self.text(module + 1).to_owned()]].concat());
            }
            self.tokens.drain(at..end.min(self.tokens.len()));
        }
        modules
    }

    /// Where the bracket that opens at `at` closes.
    fn closing(&self, at: usize) -> usize {
        let mut depth = 0usize;
        for index in at..self.tokens.len() {
            match self.text(index) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return index;
            }
        }
        self.tokens.len()
    }

    /// Behind the `;` or the body of the item at `at`, attributes included.
    fn item_end(&self, mut at: usize) -> usize {
        let bodiless = self.ends_by_semicolon(at);
        while at < self.tokens.len() {
            match self.text(at) {
                ";" | "," => return at + 1,
                ")" | "]" | "}" => return at,
                "{" if !bodiless => return self.closing(at) + 1,
                "(" | "[" | "{" => at = self.closing(at),
                _ => {}
            }
            at += 1;
        }
        at
    }

    fn ends_by_semicolon(&self, at: usize) -> bool {
        let keyword = |index| match self.text(index) {
            "use" | "static" | "let" => Some(true),
            "const" => Some(self.text(index + 1) != "fn"),
            "fn" | "mod" | "impl" | "struct" | "enum" | "trait" | "macro_rules" => Some(false),
            _ => None,
        };
        (at..self.tokens.len()).find_map(keyword).unwrap_or(false)
    }

    fn find_paths(&mut self) {
        let mut depth = 0usize;
        while self.at < self.tokens.len() {
            match self.text(self.at) {
                "{" => depth += 1,
                "}" => {
                    depth = depth.saturating_sub(1);
                    if self.inline.pop_if(|began| *began == depth).is_some() {
                        self.module.pop();
                    }
                }
                "mod" if self.text(self.at + 2) == "{" => {
                    self.module.push(self.text(self.at + 1).to_owned());
                    self.inline.push(depth);
                    self.at += 1;
                }
                "mod" if self.text(self.at + 2) == ";" => self.at += 1,
                "::" => {}
                ";" => self.publishes = false,
                "use" => self.publishes = self.at > 0 && matches!(self.text(self.at - 1), "pub" | ")"),
                _ if self.tokens[self.at].is_name() => {
                    self.tree(&mut Vec::new());
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// One path, or an import's tree: reads from a name to where the path ends, a leaf at a time.
    fn tree(&mut self, prefix: &mut Vec<String>) {
        let length = prefix.len();
        let line = self.tokens[self.at].line;
        loop {
            match self.text(self.at) {
                "*" => {
                    self.at += 1;
                    self.leaf(prefix, true, line);
                    break;
                }
                "{" => {
                    self.group(prefix);
                    break;
                }
                "self" if !prefix.is_empty() => self.at += 1,
                name => {
                    let name = name.to_owned();
                    prefix.push(name);
                    self.at += 1;
                }
            }
            let goes_on = self.text(self.at) == "::"
                && self.tokens.get(self.at + 1).is_some_and(|next| next.is_name() || matches!(&*next.text, "{" | "*"));
            if !goes_on {
                self.leaf(prefix, false, line);
                break;
            }
            self.at += 1;
        }
        prefix.truncate(length);
    }

    fn group(&mut self, prefix: &mut Vec<String>) {
        self.at += 1;
        while self.at < self.tokens.len() && self.text(self.at) != "}" {
            if self.tokens[self.at].is_name() || matches!(self.text(self.at), "{" | "*") {
                self.tree(prefix);
                self.at += if self.text(self.at) == "as" { 2 } else { 0 };
            } else {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    fn leaf(&mut self, segments: &[String], glob: bool, line: usize) {
        let next = self.text(self.at);
        let alias = (next == "as").then(|| self.text(self.at + 1).to_owned());
        let ends_import = matches!(next, ";" | "," | "}" | "as");
        let (segments, is_macro) = (segments.to_vec(), next == "!");
        let absolute = self.absolute(&segments, glob || alias.is_some());
        self.paths.push(NamedPath {
            segments,
            absolute,
            alias,
            glob,
            is_macro,
            ends_import,
            is_public_import: self.publishes,
            line,
        });
    }

    /// A lone `crate`, `self` or `super`, as in `pub(crate)` or `self.x`, is no path unless it is `imported`.
    fn absolute(&self, segments: &[String], imported: bool) -> Option<Vec<String>> {
        let mut absolute = match segments.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.module.clone(),
            _ => return None,
        };
        for segment in segments {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => drop(absolute.pop()),
                name => absolute.push(name.to_owned()),
            }
        }
        (segments.len() > 1 || imported).then_some(absolute)
    }
}

/// Names, numbers, `::` and single punctuation marks; comments, lifetimes and the content of literals are left out.
fn lex(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let char_at = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let start = at;
        let mut text = String::new();
        match char_at(at) {
            '/' if char_at(at + 1) == '/' => at = position(&chars, at, &['\n']),
            '/' if char_at(at + 1) == '*' => at = comment_end(&chars, at),
            '"' => at = string_end(&chars, at),
            '\'' if char_at(at + 1) == '\\' => at = position(&chars, at + 3, &['\'']) + 1,
            '\'' if char_at(at + 2) == '\'' => at += 3,
            '\'' => at += 1 + chars[at + 1..].iter().take_while(|c| is_word(**c)).count(),
            c if is_word(c) => {
                at += chars[at..].iter().take_while(|c| is_word(**c)).count();
                text = chars[start..at].iter().collect();
                let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
                match text.as_str() {
                    "r" | "br" | "cr" if char_at(at + hashes) == '"' => {
                        let end = [vec!['"'], vec!['#'; hashes]].concat();
                        at = position(&chars, at + hashes + 1, &end) + end.len();
                        text.clear();
                    }
                    "r" if hashes == 1 => {
                        at += 1;
                        text.clear();
                    }
                    "b" | "c" if char_at(at) == '"' => text.clear(),
                    "b" if char_at(at) == '\'' => text.clear(),
                    _ => {}
                }
            }
            ':' if char_at(at + 1) == ':' => {
                at += 2;
                text = "::".to_owned();
            }
            c => {
                at += 1;
                text.extend((!c.is_whitespace()).then_some(c));
            }
        }
        at = at.min(chars.len());
        if !text.is_empty() {
            tokens.push(Token { text, line });
        }
        line += chars[start..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Where `wanted` next stands, or the end.
fn position(chars: &[char], from: usize, wanted: &[char]) -> usize {
    let rest = chars.get(from..).unwrap_or_default();
    from + rest.windows(wanted.len()).position(|window| window == wanted).unwrap_or(rest.len())
}

fn comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0usize;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => depth += 1,
            ('*', Some('/')) => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}
