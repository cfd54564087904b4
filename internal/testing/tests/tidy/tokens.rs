//! Rust sources as tokens, so that comments and texts are not mistaken for code.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The tokens of a file without the items that are built for tests only.
pub(crate) fn code(name: &str, text: &str) -> Vec<TokenTree> {
    let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
    without_tests(tokens.into_iter().collect())
}

/// Drops each item that follows `#[cfg(test)]`, at this level and below.
fn without_tests(tokens: Vec<TokenTree>) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        let attribute = is_punct(&token, '#').then(|| rest.peek().map(ToString::to_string));
        if attribute.flatten().as_deref().map(|text| text.replace(' ', ""))
            == Some("[cfg(test)]".to_owned())
        {
            // An item ends with its braces or its semicolon.
            rest.next();
            rest.by_ref().find(|token| is_punct(token, ';') || in_braces(token).is_some());
            continue;
        }
        kept.push(match token {
            TokenTree::Group(group) => {
                let inner = without_tests(group.stream().into_iter().collect());
                let inner = inner.into_iter().collect();
                proc_macro2::Group::new(group.delimiter(), inner).into()
            }
            token => token,
        });
    }
    kept
}

/// The tokens as one text with a space between two of them; delimiters are left out.
pub(crate) fn flat(tokens: &[TokenTree]) -> String {
    let mut words = Vec::new();
    collect(tokens, &mut words);
    words.join(" ")
}

fn collect(tokens: &[TokenTree], words: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => collect(&inner(group), words),
            // A text is no code.
            TokenTree::Literal(_) => words.push("_".to_owned()),
            token => words.push(token.to_string()),
        }
    }
}

pub(crate) fn inner(group: &proc_macro2::Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

pub(crate) fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(it) if it.as_char() == wanted)
}

pub(crate) fn ident(token: &TokenTree) -> Option<String> {
    match token {
        TokenTree::Ident(it) => Some(it.to_string()),
        _ => None,
    }
}

pub(crate) fn in_braces(token: &TokenTree) -> Option<Vec<TokenTree>> {
    match token {
        TokenTree::Group(it) if it.delimiter() == Delimiter::Brace => Some(inner(it)),
        _ => None,
    }
}
