//! Parses `src/` into syntax trees: the modules with the paths that they use and the types that they implement.
//!
//! Tests are ignored: they may use everything that they test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, BinOp, Expr, Item, Member, UseTree};

/// Segments of a path in this crate (without `crate::`) or of another crate.
pub type Segments = Vec<String>;

/// One file of `src/`.
pub struct Module {
    /// File, relative to `src/`.
    pub file: PathBuf,
    /// Names of the items that the module defines.
    items: BTreeSet<String>,
    /// Imported names and their paths.
    imports: BTreeMap<String, Reference>,
    /// Imported names that the module re-exports.
    exports: BTreeSet<String>,
    /// Used paths as written, with their lines.
    paths: Vec<(Reference, usize)>,
    /// Identifiers of its code.
    pub identifiers: BTreeSet<String>,
    /// Types with an inherent `impl` in the module.
    pub implements: BTreeSet<String>,
    /// Names of the values that `+` or `-` has on its left, with their lines.
    pub sums: Vec<(String, usize)>,
    /// Lines without those of `mod tests`.
    pub lines: usize,
}

/// A path resolved within its own file.
#[derive(Clone, Debug, PartialEq)]
pub enum Reference {
    /// A path from the root of this crate.
    Local(Segments),
    /// A path that begins with another crate or with an item of this file.
    External(Segments),
}

/// All modules of the crate by path.
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
    /// Reads the crate with this root file and all its modules.
    pub fn read(root: &Path) -> Self {
        let mut sources = Self(BTreeMap::new());
        sources.add(root.parent().unwrap(), root, Vec::new());
        sources
    }

    /// Builds a crate of the given modules to test the rules.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let names: Vec<Segments> = files.iter().map(|(path, _)| segments(path)).collect();
        let modules = files.iter().zip(&names).map(|((path, text), name)| {
            let children =
                names.iter().filter(|other| other.len() == name.len() + 1 && other.starts_with(name));
            let children = children.map(|child| child.last().unwrap().clone()).collect();
            (name.clone(), parse_module(PathBuf::from(path), name, text, children))
        });
        Self(modules.collect())
    }

    fn add(&mut self, src: &Path, file: &Path, name: Segments) {
        let text =
            std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let syntax = syn::parse_file(&text).unwrap();
        let children: BTreeSet<String> = syntax.items.iter().filter_map(declared_module).collect();
        let folder = if name.is_empty() { src.to_owned() } else { file.with_extension("") };
        for child in &children {
            let path = [name.clone(), vec![child.clone()]].concat();
            self.add(src, &folder.join(format!("{child}.rs")), path);
        }
        let relative = file.strip_prefix(src).unwrap().to_owned();
        self.0.insert(name.clone(), parse_module(relative, &name, &text, children));
    }

    /// Returns every module with its path.
    pub fn modules(&self) -> impl Iterator<Item = (&Segments, &Module)> {
        self.0.iter()
    }

    /// Returns the targets that a module uses, with the first line of each.
    pub fn uses(&self, name: &[String]) -> BTreeMap<Target, usize> {
        let mut found = BTreeMap::new();
        let module = &self.0[name];
        let imported = module.imports.iter().filter(|(name, _)| !module.exports.contains(*name));
        let imported = imported.map(|(_, path)| (path.clone(), 0));
        for (path, line) in imported.chain(module.paths.iter().cloned()) {
            let (path, line) = (Self::resolve_import(module, path), line);
            let target = match path {
                Reference::Local(path) => Target::Module(self.definition(&path, 0)),
                Reference::External(path) => Target::External(path.join("::")),
            };
            let first: &mut usize = found.entry(target).or_insert(line);
            *first = (*first).min(line);
        }
        found
    }

    /// Resolves the first segment of a path by the module's imports.
    fn resolve_import(module: &Module, path: Reference) -> Reference {
        let Reference::External(segments) = &path else { return path };
        match module.imports.get(&segments[0]) {
            Some(Reference::Local(prefix)) => Reference::Local([prefix.as_slice(), &segments[1..]].concat()),
            Some(Reference::External(prefix)) => {
                Reference::External([prefix.as_slice(), &segments[1..]].concat())
            }
            None => path,
        }
    }

    /// Returns the module that defines the item of a path, following re-exports.
    fn definition(&self, path: &[String], depth: usize) -> Segments {
        let longest =
            (0..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length])).unwrap_or(0);
        let (name, rest) = path.split_at(longest);
        let imported = rest.first().and_then(|item| {
            let module = &self.0.get(name)?;
            if module.items.contains(item) { None } else { module.imports.get(item) }
        });
        match imported {
            Some(Reference::Local(imported)) if depth < 8 && imported.as_slice() != path => {
                self.definition(&[imported.as_slice(), &rest[1..]].concat(), depth + 1)
            }
            _ => name.to_vec(),
        }
    }

    /// Returns groups of modules that use each other, each sorted.
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
            let (mut reached, mut next) = (BTreeSet::new(), vec![from.clone()]);
            while let Some(name) = next.pop() {
                for other in &edges[&name] {
                    if reached.insert(other.clone()) {
                        next.push(other.clone());
                    }
                }
            }
            reached
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

/// Returns whether an item is for tests only.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

/// Returns the name of a module declaration with its own file, unless it is for tests only.
fn declared_module(item: &Item) -> Option<String> {
    match item {
        Item::Mod(module) if module.content.is_none() && !is_test(&module.attrs) => {
            Some(module.ident.to_string())
        }
        _ => None,
    }
}

fn parse_module(file: PathBuf, name: &[String], text: &str, children: BTreeSet<String>) -> Module {
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
        items: syntax.items.iter().filter_map(defined_name).collect(),
        imports: visitor.imports,
        exports: visitor.exports,
        paths: visitor.paths,
        identifiers: visitor.identifiers,
        implements: visitor.implements,
        sums: visitor.sums,
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

/// Returns the name that an item defines.
fn defined_name(item: &Item) -> Option<String> {
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

/// Returns the name of a value: of a variable, or of its last field or method.
fn value_name(value: &Expr) -> Option<String> {
    match value {
        Expr::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        Expr::MethodCall(call) => Some(call.method.to_string()),
        Expr::Paren(inner) => value_name(&inner.expr),
        Expr::Reference(inner) => value_name(&inner.expr),
        Expr::Unary(inner) => value_name(&inner.expr),
        Expr::Field(field) => match &field.member {
            Member::Named(name) => Some(name.to_string()),
            Member::Unnamed(_) => value_name(&field.base),
        },
        _ => None,
    }
}

/// Collects the paths of a file.
#[derive(Default)]
struct Visitor {
    name: Segments,
    children: BTreeSet<String>,
    imports: BTreeMap<String, Reference>,
    exports: BTreeSet<String>,
    paths: Vec<(Reference, usize)>,
    identifiers: BTreeSet<String>,
    implements: BTreeSet<String>,
    sums: Vec<(String, usize)>,
}

impl Visitor {
    /// Resolves a path as written in this file.
    fn resolve(&self, path: &[String]) -> Reference {
        let mut base = self.name.clone();
        let mut rest = path;
        match path[0].as_str() {
            "crate" => return Reference::Local(path[1..].to_vec()),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            child if self.children.contains(child) => {}
            _ => return Reference::External(path.to_vec()),
        }
        Reference::Local([base, rest.to_vec()].concat())
    }

    fn collect_imports(&mut self, prefix: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.collect_imports(&with(&path.ident), &path.tree),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.collect_imports(prefix, tree)),
            UseTree::Glob(_) => self.imports.extend([(prefix.join("::") + "::*", self.resolve(prefix))]),
            UseTree::Name(name) if name.ident == "self" => {
                self.imports.insert(prefix.last().unwrap().clone(), self.resolve(prefix));
            }
            UseTree::Name(name) => {
                self.imports.insert(name.ident.to_string(), self.resolve(&with(&name.ident)));
            }
            UseTree::Rename(renamed) => {
                self.imports.insert(renamed.rename.to_string(), self.resolve(&with(&renamed.ident)));
            }
        }
    }

    /// Collects paths in a macro's tokens, which are not parsed as syntax.
    fn visit_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<(String, usize)> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    self.identifiers.insert(name.to_string());
                    if colons != 2 {
                        self.finish_path(std::mem::take(&mut path));
                    }
                    path.push((name.to_string(), name.span().start().line));
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => {
                    self.finish_path(std::mem::take(&mut path));
                    self.visit_tokens(group.stream());
                }
                _ => self.finish_path(std::mem::take(&mut path)),
            }
            colons = 0;
        }
        self.finish_path(path);
    }

    fn finish_path(&mut self, path: Vec<(String, usize)>) {
        if path.len() > 1 {
            let (names, lines): (Vec<String>, Vec<usize>) = path.into_iter().unzip();
            self.paths.push((self.resolve(&names), lines[0]));
        }
    }
}

impl<'ast> Visit<'ast> for Visitor {
    fn visit_expr_binary(&mut self, sum: &'ast syn::ExprBinary) {
        let is_sum =
            matches!(sum.op, BinOp::Add(_) | BinOp::Sub(_) | BinOp::AddAssign(_) | BinOp::SubAssign(_));
        if let Some(name) = value_name(&sum.left).filter(|_| is_sum) {
            self.sums.push((name, sum.span().start().line));
        }
        visit::visit_expr_binary(self, sum);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            let prefix: BTreeSet<String> = self.imports.keys().cloned().collect();
            self.collect_imports(&[], &item.tree);
            if !matches!(item.vis, syn::Visibility::Inherited) {
                self.exports.extend(self.imports.keys().filter(|name| !prefix.contains(*name)).cloned());
            }
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if item.trait_.is_none()
            && let syn::Type::Path(implemented) = &*item.self_ty
            && let Some(last) = implemented.path.segments.last()
        {
            self.implements.insert(last.ident.to_string());
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let named: Vec<(String, usize)> =
            path.segments.iter().map(|s| (s.ident.to_string(), s.ident.span().start().line)).collect();
        self.finish_path(named);
        visit::visit_path(self, path);
    }

    fn visit_ident(&mut self, name: &'ast syn::Ident) {
        self.identifiers.insert(name.to_string());
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.visit_tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}
