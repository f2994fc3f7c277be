//! Reads `src/` as syntax trees: the modules, the paths that each of them uses, and the types that it implements.
//!
//! Tests are left out: they may use whatever they test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// A path in the crate (without `crate::`), or of another crate.
pub type Segments = Vec<String>;

/// One file of `src/`.
pub struct Module {
    /// Its file, from `src/` on.
    pub file: PathBuf,
    /// Names of the items that it defines.
    items: BTreeSet<String>,
    /// Names that it imports, and the paths behind them.
    imports: BTreeMap<String, Reference>,
    /// Names among them that it only hands on.
    exports: BTreeSet<String>,
    /// Paths that it uses, as they are written, each with its line.
    paths: Vec<(Reference, usize)>,
    /// Identifiers of its code.
    pub identifiers: BTreeSet<String>,
    /// Types that have an inherent `impl` in it.
    pub implements: BTreeSet<String>,
    /// Lines without those of `mod tests`.
    pub lines: usize,
}

/// A path that is resolved as far as its own file goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Reference {
    /// From the root of this crate.
    Ours(Segments),
    /// It begins with a name that is no module of this crate: another crate, or an item of this file.
    Other(Segments),
}

/// All modules of the crate, by their paths.
pub struct Sources(BTreeMap<Segments, Module>);

/// A use of one module by another, or of another crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The module that defines the item.
    Module(Segments),
    /// A path of another crate.
    External(String),
}

impl Sources {
    /// Reads the crate whose root is `root`, and all modules below it.
    pub fn read(root: &Path) -> Self {
        let mut sources = Self(BTreeMap::new());
        sources.add(root.parent().unwrap(), root, Vec::new());
        sources
    }

    /// A crate of the given modules, for the tests of the rules.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let names: Vec<Segments> = files.iter().map(|(path, _)| segments(path)).collect();
        let modules = files.iter().zip(&names).map(|((path, text), name)| {
            let children =
                names.iter().filter(|other| other.len() == name.len() + 1 && other.starts_with(name));
            let children = children.map(|child| child.last().unwrap().clone()).collect();
            (name.clone(), module(PathBuf::from(path), name, text, children))
        });
        Self(modules.collect())
    }

    fn add(&mut self, src: &Path, file: &Path, name: Segments) {
        let text =
            std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let syntax = syn::parse_file(&text).unwrap();
        let children: BTreeSet<String> = syntax.items.iter().filter_map(declared).collect();
        let folder = if name.is_empty() { src.to_owned() } else { file.with_extension("") };
        for child in &children {
            let path = [name.clone(), vec![child.clone()]].concat();
            self.add(src, &folder.join(format!("{child}.rs")), path);
        }
        let relative = file.strip_prefix(src).unwrap().to_owned();
        self.0.insert(name.clone(), module(relative, &name, &text, children));
    }

    /// Every module with its path.
    pub fn modules(&self) -> impl Iterator<Item = (&Segments, &Module)> {
        self.0.iter()
    }

    /// What the module `name` uses, and in which line first.
    pub fn uses(&self, name: &[String]) -> BTreeMap<Target, usize> {
        let mut found = BTreeMap::new();
        let module = &self.0[name];
        let imported = module.imports.iter().filter(|(name, _)| !module.exports.contains(*name));
        let imported = imported.map(|(_, path)| (path.clone(), 0));
        for (path, line) in imported.chain(module.paths.iter().cloned()) {
            let (path, line) = (Self::full(module, path), line);
            let target = match path {
                Reference::Ours(path) => Target::Module(self.definition(&path, 0)),
                Reference::Other(path) => Target::External(path.join("::")),
            };
            let first: &mut usize = found.entry(target).or_insert(line);
            *first = (*first).min(line);
        }
        found
    }

    /// A path with the import behind its first name.
    fn full(module: &Module, path: Reference) -> Reference {
        let Reference::Other(segments) = &path else { return path };
        match module.imports.get(&segments[0]) {
            Some(Reference::Ours(before)) => Reference::Ours([before.as_slice(), &segments[1..]].concat()),
            Some(Reference::Other(before)) => Reference::Other([before.as_slice(), &segments[1..]].concat()),
            None => path,
        }
    }

    /// The module that defines what `path` names, behind re-exports.
    fn definition(&self, path: &[String], depth: usize) -> Segments {
        let longest =
            (0..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length])).unwrap_or(0);
        let (name, rest) = path.split_at(longest);
        let behind = rest.first().and_then(|item| {
            let module = &self.0.get(name)?;
            if module.items.contains(item) { None } else { module.imports.get(item) }
        });
        match behind {
            Some(Reference::Ours(behind)) if depth < 8 && behind.as_slice() != path => {
                self.definition(&[behind.as_slice(), &rest[1..]].concat(), depth + 1)
            }
            _ => name.to_vec(),
        }
    }

    /// Groups of modules that use each other, each sorted.
    pub fn cycles(&self) -> Vec<Vec<String>> {
        let edges: BTreeMap<&Segments, BTreeSet<Segments>> = self
            .0
            .keys()
            .map(|name| {
                let used = self.uses(name).into_keys().filter_map(|target| match target {
                    Target::Module(other) if other != *name => Some(other),
                    _ => None,
                });
                (name, used.collect())
            })
            .collect();
        let reaches = |from: &Segments| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
            while let Some(name) = next.pop() {
                for other in &edges[&name] {
                    if seen.insert(other.clone()) {
                        next.push(other.clone());
                    }
                }
            }
            seen
        };
        let closure: BTreeMap<&Segments, BTreeSet<Segments>> =
            self.0.keys().map(|name| (name, reaches(name))).collect();
        let groups: BTreeSet<Vec<String>> = self
            .0
            .keys()
            .filter(|name| closure[name].contains(*name))
            .map(|name| {
                let group = closure[name].iter().filter(|other| closure[other].contains(name));
                group.map(|other| other.join("::")).collect()
            })
            .collect();
        groups.into_iter().collect()
    }
}

fn segments(path: &str) -> Segments {
    path.split("::").filter(|segment| !segment.is_empty()).map(ToOwned::to_owned).collect()
}

/// Whether an item is there for tests alone.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

/// The name of a module of its own file, unless it is there for tests alone.
fn declared(item: &Item) -> Option<String> {
    match item {
        Item::Mod(module) if module.content.is_none() && !is_test(&module.attrs) => {
            Some(module.ident.to_string())
        }
        _ => None,
    }
}

fn module(file: PathBuf, name: &[String], text: &str, children: BTreeSet<String>) -> Module {
    let mut syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut lines = text.lines().count();
    syntax.items.retain(|item| {
        let Some(attributes) = attributes(item).filter(|attributes| is_test(attributes)) else { return true };
        let first = attributes.first().map_or(1, |attribute| attribute.span().start().line);
        lines -= item.span().end().line + 1 - first;
        false
    });
    let mut visitor = Visitor { name: name.to_vec(), children, ..Visitor::default() };
    visitor.visit_file(&syntax);
    Module {
        file,
        items: syntax.items.iter().filter_map(defined).collect(),
        imports: visitor.imports,
        exports: visitor.exports,
        paths: visitor.paths,
        identifiers: visitor.identifiers,
        implements: visitor.implements,
        lines,
    }
}

fn attributes(item: &Item) -> Option<&[Attribute]> {
    Some(match item {
        Item::Const(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return None,
    })
}

/// The name that an item defines.
fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        _ => return None,
    };
    Some(name.to_string())
}

/// Gathers the paths of a file.
#[derive(Default)]
struct Visitor {
    name: Segments,
    children: BTreeSet<String>,
    imports: BTreeMap<String, Reference>,
    exports: BTreeSet<String>,
    paths: Vec<(Reference, usize)>,
    identifiers: BTreeSet<String>,
    implements: BTreeSet<String>,
}

impl Visitor {
    /// What a path means in this file.
    fn reference(&self, path: &[String]) -> Reference {
        let mut base = self.name.clone();
        let mut rest = path;
        match path[0].as_str() {
            "crate" => return Reference::Ours(path[1..].to_vec()),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            child if self.children.contains(child) => {}
            _ => return Reference::Other(path.to_vec()),
        }
        Reference::Ours([base, rest.to_vec()].concat())
    }

    fn import(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.import(&with(&path.ident), &path.tree),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(before, tree)),
            UseTree::Glob(_) => self.imports.extend([(before.join("::") + "::*", self.reference(before))]),
            UseTree::Name(name) if name.ident == "self" => {
                self.imports.insert(before.last().unwrap().clone(), self.reference(before));
            }
            UseTree::Name(name) => {
                self.imports.insert(name.ident.to_string(), self.reference(&with(&name.ident)));
            }
            UseTree::Rename(renamed) => {
                self.imports.insert(renamed.rename.to_string(), self.reference(&with(&renamed.ident)));
            }
        }
    }

    /// Paths in what a macro is given: it is no syntax yet.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<(String, usize)> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    self.identifiers.insert(name.to_string());
                    if colons != 2 {
                        self.end(std::mem::take(&mut path));
                    }
                    path.push((name.to_string(), name.span().start().line));
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => {
                    self.end(std::mem::take(&mut path));
                    self.tokens(group.stream());
                }
                _ => self.end(std::mem::take(&mut path)),
            }
            colons = 0;
        }
        self.end(path);
    }

    fn end(&mut self, path: Vec<(String, usize)>) {
        if path.len() > 1 {
            let (names, lines): (Vec<String>, Vec<usize>) = path.into_iter().unzip();
            self.paths.push((self.reference(&names), lines[0]));
        }
    }
}

impl<'ast> Visit<'ast> for Visitor {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            let before: BTreeSet<String> = self.imports.keys().cloned().collect();
            self.import(&[], &item.tree);
            if !matches!(item.vis, syn::Visibility::Inherited) {
                self.exports.extend(self.imports.keys().filter(|name| !before.contains(*name)).cloned());
            }
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if item.trait_.is_none()
            && let syn::Type::Path(of) = &*item.self_ty
            && let Some(last) = of.path.segments.last()
        {
            self.implements.insert(last.ident.to_string());
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let named: Vec<(String, usize)> =
            path.segments.iter().map(|s| (s.ident.to_string(), s.ident.span().start().line)).collect();
        self.end(named);
        visit::visit_path(self, path);
    }

    fn visit_ident(&mut self, name: &'ast syn::Ident) {
        self.identifiers.insert(name.to_string());
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}
