//! Which paths a source file uses, read from its tokens.

use std::iter::Peekable;
use std::str::Chars;

/// A path that a file uses.
#[derive(Debug)]
pub struct Use {
    pub line: usize,
    /// Within this crate from its root; otherwise as written.
    pub path: String,
    /// Whether it is a path of this crate.
    pub is_ours: bool,
}

#[derive(Debug, PartialEq)]
enum Token {
    Ident(String),
    /// `::`
    Path,
    Punct(char),
}

/// The paths that `source`, the module at `module` (`["controllers", "site"]`), uses: each that begins at
/// `crate`, `toezicht` or `super`, and each that begins at a name and goes on with `::`.
pub fn uses(source: &str, module: &[&str]) -> Vec<Use> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    let mut inline: Vec<usize> = Vec::new();
    let mut depth = 0;
    for (at, (line, token)) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| &tokens[at].1);
        match token {
            Token::Punct('{') => {
                depth += 1;
                let is_module = at >= 2 && matches!(&tokens[at - 2].1, Token::Ident(word) if word == "mod");
                if is_module {
                    inline.push(depth);
                }
            }
            Token::Punct('}') => {
                if inline.last() == Some(&depth) {
                    inline.pop();
                }
                depth -= 1;
            }
            Token::Ident(word) if starts_path(&tokens, at) => {
                let after_use = matches!(before, Some(Token::Ident(word)) if word == "use");
                let goes_on = tokens.get(at + 1).is_some_and(|(_, next)| *next == Token::Path);
                if goes_on || after_use {
                    let mut written = Vec::new();
                    expand(&tokens, at, String::new(), &mut written);
                    let here = module.len() + inline.len();
                    found.extend(
                        written.into_iter().filter_map(|path| resolve(word, &path, module, here, *line)),
                    );
                }
            }
            _ => {}
        }
    }
    found
}

/// A name that does not go on another path or value. `::name` begins one as well.
fn starts_path(tokens: &[(usize, Token)], at: usize) -> bool {
    let back = |by: usize| at.checked_sub(by).map(|at| &tokens[at].1);
    match back(1) {
        Some(Token::Punct('.')) => false,
        Some(Token::Path) => !matches!(back(2), Some(Token::Ident(_) | Token::Punct('>'))),
        _ => true,
    }
}

/// The paths of a tree such as `crate::{a, b::{c, d}}`, without what comes after `as`.
fn expand(tokens: &[(usize, Token)], mut at: usize, prefix: String, found: &mut Vec<String>) -> usize {
    let mut path = prefix;
    loop {
        match tokens.get(at).map(|(_, token)| token) {
            Some(Token::Ident(word)) => {
                if !path.is_empty() {
                    path.push_str("::");
                }
                path.push_str(word);
                at += 1;
                if tokens.get(at).is_some_and(|(_, token)| *token == Token::Path) {
                    at += 1;
                    continue;
                }
            }
            Some(Token::Punct('{')) => {
                at += 1;
                while !matches!(tokens.get(at), None | Some((_, Token::Punct('}')))) {
                    let end = expand(tokens, at, path.clone(), found);
                    at = end.max(at + 1);
                }
                return at + 1;
            }
            _ => {}
        }
        found.push(path);
        return at;
    }
}

/// A written path as one of this crate's, or of another; `None`: one within the module itself.
fn resolve(first: &str, written: &str, module: &[&str], here: usize, line: usize) -> Option<Use> {
    let ours = |path: String| (!path.is_empty()).then_some(Use { line, path, is_ours: true });
    match first {
        "crate" | "toezicht" => ours(written.split_once("::").map_or("", |(_, rest)| rest).to_owned()),
        "self" => None,
        "super" => {
            let steps: Vec<&str> = written.split("::").collect();
            let ups = steps.iter().take_while(|step| **step == "super").count();
            let kept = here.checked_sub(ups)?;
            // Above the file's own module lie only inline ones, which are of that module.
            if kept > 0 {
                return None;
            }
            ours(steps[ups..].join("::"))
        }
        _ if module.contains(&first) => None,
        _ => Some(Use { line, path: written.to_owned(), is_ours: false }),
    }
}

/// The tokens with their lines; comments, texts and characters are left out.
fn tokens(source: &str) -> Vec<(usize, Token)> {
    let mut found = Vec::new();
    let mut chars = source.chars().peekable();
    let mut line = 1;
    while let Some(char) = chars.next() {
        match char {
            '\n' => line += 1,
            '/' if chars.peek() == Some(&'/') => while chars.next_if(|next| *next != '\n').is_some() {},
            '/' if chars.peek() == Some(&'*') => line += skip_comment(&mut chars),
            '"' => line += skip_string(&mut chars),
            '\'' => skip_char_or_lifetime(&mut chars),
            ':' if chars.next_if_eq(&':').is_some() => found.push((line, Token::Path)),
            'r' | 'b' | 'c' if starts_raw_string(char, &chars) => line += skip_raw_string(&mut chars),
            _ if char.is_alphabetic() || char == '_' => {
                let mut word = String::from(char);
                while let Some(next) = chars.next_if(|next| next.is_alphanumeric() || *next == '_') {
                    word.push(next);
                }
                // `r#name` is the name.
                if word == "r" && chars.next_if_eq(&'#').is_some() {
                    word.clear();
                    while let Some(next) = chars.next_if(|next| next.is_alphanumeric() || *next == '_') {
                        word.push(next);
                    }
                }
                found.push((line, Token::Ident(word)));
            }
            _ if char.is_whitespace() => {}
            _ => found.push((line, Token::Punct(char))),
        }
    }
    found
}

fn skip_comment(chars: &mut Peekable<Chars>) -> usize {
    let (mut depth, mut lines, mut last) = (0, 0, '/');
    for char in chars.by_ref() {
        match (last, char) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            (_, '\n') => lines += 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        last = char;
    }
    lines
}

fn skip_string(chars: &mut Peekable<Chars>) -> usize {
    let mut lines = 0;
    while let Some(char) = chars.next() {
        match char {
            '"' => break,
            '\\' => lines += usize::from(chars.next() == Some('\n')),
            '\n' => lines += 1,
            _ => {}
        }
    }
    lines
}

/// After `'`: a character, which ends with another `'`, or a lifetime, which does not.
fn skip_char_or_lifetime(chars: &mut Peekable<Chars>) {
    if chars.next_if_eq(&'\\').is_some() {
        chars.next();
        while chars.next().is_some_and(|char| char != '\'') {}
        return;
    }
    let mut ahead = chars.clone();
    ahead.next();
    if ahead.next() == Some('\'') {
        chars.next();
        chars.next();
    }
}

/// Whether `r`, `br` or `cr` begins a raw text: hashes and a quote follow.
fn starts_raw_string(first: char, chars: &Peekable<Chars>) -> bool {
    let mut ahead = chars.clone();
    if first != 'r' && ahead.next() != Some('r') {
        return false;
    }
    while ahead.next_if_eq(&'#').is_some() {}
    ahead.next() == Some('"')
}

fn skip_raw_string(chars: &mut Peekable<Chars>) -> usize {
    let (mut hashes, mut lines) = (0, 0);
    chars.next_if_eq(&'r');
    while chars.next_if_eq(&'#').is_some() {
        hashes += 1;
    }
    chars.next();
    while let Some(char) = chars.next() {
        if char == '\n' {
            lines += 1;
        } else if char == '"' {
            let mut closing = 0;
            while closing < hashes && chars.next_if_eq(&'#').is_some() {
                closing += 1;
            }
            if closing == hashes {
                break;
            }
        }
    }
    lines
}
