//! The paths (`a::b::c`) that a Rust file names, with the modules that it declares inline.

use proc_macro2::{Spacing, TokenTree};

use crate::tokens::{ident, in_braces, inner, is_punct};

/// A module's path below its crate's root, which is the empty one.
pub(crate) type Module = Vec<String>;

/// A path as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    /// The module in which it stands.
    pub(crate) module: Module,
    pub(crate) segments: Vec<String>,
    /// How a `use` declaration makes it known in its module; `None` if it stands in other code.
    pub(crate) binding: Option<Binding>,
    /// Whether it stands in a `pub use`: the file hands the name on and does not use it for that.
    pub(crate) exported: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Under this name: the last segment's, or the one after `as`.
    Name(String),
    /// `use a::b::*`.
    Glob,
}

/// What a file says about modules.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) written: Vec<Written>,
    /// Modules with a body in this file.
    pub(crate) inline_modules: Vec<Module>,
    /// Items that are defined here, with their module.
    pub(crate) items: Vec<(Module, String)>,
}

const ITEM_KEYWORDS: [&str; 8] =
    ["struct", "enum", "union", "trait", "fn", "type", "const", "static"];

impl Names {
    /// Reads a file that is the module `module`.
    pub(crate) fn read(code: &[TokenTree], module: &[String]) -> Self {
        let mut names = Self::default();
        names.walk(code, module);
        names
    }

    fn walk(&mut self, tokens: &[TokenTree], module: &[String]) {
        let mut at = 0;
        while at < tokens.len() {
            at += self.take(tokens, at, module);
        }
    }

    /// Reads what begins at `at`; how many tokens it has.
    fn take(&mut self, tokens: &[TokenTree], at: usize, module: &[String]) -> usize {
        let word = ident(&tokens[at]);
        let next = tokens.get(at + 1);
        let next_word = next.and_then(ident);
        match (word.as_deref(), next_word) {
            (Some("use"), _) => 1 + self.declaration(&tokens[at + 1..], module, false),
            // A visibility such as `pub(in crate::a)` imports nothing.
            (Some("pub"), _) => {
                let n_words = if matches!(next, Some(TokenTree::Group(_))) { 2 } else { 1 };
                match tokens.get(at + n_words).and_then(ident).as_deref() {
                    Some("use") => {
                        let rest = &tokens[at + n_words + 1..];
                        n_words + 1 + self.declaration(rest, module, true)
                    }
                    _ => n_words,
                }
            }
            (Some("mod"), Some(name)) => match tokens.get(at + 2).and_then(in_braces) {
                Some(body) => {
                    let inner = [module, &[name]].concat();
                    self.inline_modules.push(inner.clone());
                    self.walk(&body, &inner);
                    3
                }
                None => 2,
            },
            (Some(keyword), Some(name)) if ITEM_KEYWORDS.contains(&keyword) => {
                self.items.push((module.to_owned(), name));
                2
            }
            (Some(_), _) => self.path(tokens, at, module),
            (None, _) => {
                if let TokenTree::Group(group) = &tokens[at] {
                    self.walk(&inner(group), module);
                }
                1
            }
        }
    }

    /// Reads a `use` declaration after its keyword; how many tokens it has.
    fn declaration(&mut self, rest: &[TokenTree], module: &[String], exported: bool) -> usize {
        let end = rest.iter().position(|it| is_punct(it, ';')).unwrap_or(rest.len());
        let n_before = self.written.len();
        self.use_tree(&rest[..end], &[], module);
        for written in &mut self.written[n_before..] {
            written.exported = exported;
        }
        end + 1
    }

    /// Reads a path of at least two segments, or one identifier.
    fn path(&mut self, tokens: &[TokenTree], at: usize, module: &[String]) -> usize {
        let segments = segments(&tokens[at..]);
        let n_segments = segments.len();
        if n_segments > 1 && !continues(&tokens[..at]) {
            let module = module.to_owned();
            self.written.push(Written { module, segments, binding: None, exported: false });
        }
        3 * n_segments - 2
    }

    /// Reads one tree or several with commas between them.
    fn use_tree(&mut self, tokens: &[TokenTree], prefix: &[String], module: &[String]) {
        for tree in tokens.split(|token| is_punct(token, ',')) {
            let first = tree.iter().position(|token| !is_punct(token, ':')).unwrap_or(tree.len());
            let tree = &tree[first..];
            let own = segments(tree);
            // An empty tree stands after the last comma.
            let rest = tree.get((3 * own.len()).saturating_sub(2)..).unwrap_or_default();
            let segments = [prefix, &own].concat();
            let last = rest.last();
            if let Some(inner) = last.and_then(in_braces) {
                self.use_tree(&inner, &segments, module);
                continue;
            }
            let Some(end) = segments.last() else { continue };
            let (binding, segments) = if last.is_some_and(|token| is_punct(token, '*')) {
                (Binding::Glob, segments)
            } else if end == "self" && segments.len() > 1 {
                let parent = segments[..segments.len() - 1].to_vec();
                let name = last.and_then(ident).or_else(|| parent.last().cloned());
                (Binding::Name(name.unwrap_or_default()), parent)
            } else {
                (Binding::Name(last.and_then(ident).unwrap_or_else(|| end.clone())), segments)
            };
            if !own.is_empty() || binding == Binding::Glob {
                let module = module.to_owned();
                self.written.push(Written {
                    module,
                    segments,
                    binding: Some(binding),
                    exported: false,
                });
            }
        }
    }
}

/// Whether what follows belongs to a longer expression: `x.collect::<T>()`, `<T as A>::b::C`.
fn continues(before: &[TokenTree]) -> bool {
    match before {
        [.., first, second] if joins(first, second) => true,
        [.., last] => is_punct(last, '.'),
        [] => false,
    }
}

/// Whether two tokens are `::`.
fn joins(first: &TokenTree, second: &TokenTree) -> bool {
    let joint = matches!(first, TokenTree::Punct(it) if it.spacing() == Spacing::Joint);
    joint && is_punct(first, ':') && is_punct(second, ':')
}

/// The identifiers at the beginning of `tokens` with `::` between them.
fn segments(tokens: &[TokenTree]) -> Vec<String> {
    let mut found: Vec<String> = tokens.first().and_then(ident).into_iter().collect();
    while let [colon, second, next, ..] = &tokens[(3 * found.len()).saturating_sub(2)..] {
        match ident(next) {
            Some(name) if !found.is_empty() && joins(colon, second) => {
                found.push(name);
            }
            _ => break,
        }
    }
    found
}
