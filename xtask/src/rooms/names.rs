/*!
What each file of the crate names: every path that leads to a module of the crate, wherever it stands
in code, as an absolute path. What is compiled in tests alone is left out.
*/
use std::collections::{BTreeSet, HashMap};

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Ident, Spacing, TokenStream, TokenTree, token_stream::IntoIter};
use syn::{
    Arm, Attribute, Field, FieldValue, ImplItem, Item, ItemMod, ItemUse, Local, Macro, Meta,
    StmtMacro, TraitItem, UseTree, Variant, Visibility,
    ext::IdentExt as _,
    visit::{self, Visit},
};

use super::{
    ROOTS,
    attributes::{of_impl_item, of_item, of_trait_item, only_in_tests},
};

/// A module's path from the crate's root, or an item's.
pub(super) type Module = Vec<String>;

/// One file, by its name below tracer/src.
pub(super) struct Source {
    pub(super) file: String,
    pub(super) text: String,
}

/// What one place in the code names.
pub(super) struct Name {
    pub(super) file: String,
    pub(super) line: usize,
    /// The module that the place is in.
    pub(super) from: Module,
    /// What it names.
    pub(super) to: Module,
    /// Whether that takes an import of the module's, which is a name of its own.
    pub(super) imported: bool,
}

/// The crate outside its tests and its roots.
pub(super) struct Tree {
    pub(super) modules: BTreeSet<Module>,
    pub(super) names: Vec<Name>,
}

/// How many imports of imports are followed: more lead in a circle, as `use libc;` does.
const IMPORTS: usize = 8;

/// Finds what every file names.
///
/// # Errors
///
/// When a file is not Rust.
pub(super) fn read(sources: &[Source]) -> Result<Tree> {
    let mut reader = Reader::default();
    // Another crate's root has modules of its own and names this crate as others do.
    let own = |source: &&Source| source.file != "main.rs";
    for source in sources.iter().filter(own) {
        let parsed = syn::parse_file(&source.text).map_err(|error| {
            let line = error.span().start().line;
            anyhow!("parsing tracer/src/{}:{line}: {error}", source.file)
        })?;
        reader.file.clone_from(&source.file);
        reader.here = module(&source.file);
        reader.modules.insert(reader.here.clone());
        if only_in_tests(&parsed.attrs) {
            reader.tests.push(reader.here.clone());
        }
        reader.visit_file(&parsed);
    }
    Ok(reader.tree())
}

/// The module that a file is.
fn module(file: &str) -> Module {
    if ROOTS.contains(&file) {
        return Module::new();
    }
    let path = file.strip_suffix(".rs").unwrap_or(file);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').map(str::to_owned).collect()
}

/// Gathers paths as they are written; they mean something once all modules are known.
#[derive(Default)]
struct Reader {
    file: String,
    /// The module that is being read.
    here: Module,
    modules: BTreeSet<Module>,
    /// The modules that are declared to be compiled in tests alone.
    tests: Vec<Module>,
    /// What each module imports, by the name that it has there.
    imports: HashMap<(Module, String), Vec<String>>,
    written: Vec<Name>,
}

impl Reader {
    fn tree(mut self) -> Tree {
        let mut names = std::mem::take(&mut self.written);
        names.retain_mut(|name| {
            let Some(to) = self.resolve(&name.from, &name.to, IMPORTS) else {
                return false;
            };
            let first = name.to.first().cloned().unwrap_or_default();
            name.imported = self.imports.contains_key(&(name.from.clone(), first));
            name.to = to;
            !name.from.is_empty() && !self.is_test(&name.from)
        });
        let modules = std::mem::take(&mut self.modules).into_iter();
        let modules = modules.filter(|module| !module.is_empty() && !self.is_test(module));
        Tree {
            modules: modules.collect(),
            names,
        }
    }

    fn is_test(&self, module: &Module) -> bool {
        self.tests.iter().any(|test| module.starts_with(test))
    }

    /// The absolute path of what is written in `here`; nothing where it leads out of the crate, or
    /// to something of the module's own that is no module.
    fn resolve(&self, here: &[String], path: &[String], imports: usize) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" | "super" => {
                let mut base = here.to_vec();
                let mut path = path;
                while let Some((part, rest)) = path.split_first() {
                    match part.as_str() {
                        "self" => {}
                        "super" => _ = base.pop()?,
                        _ => break,
                    }
                    path = rest;
                }
                Some([&base, path].concat())
            }
            _ => {
                let child = [here, &path[..1]].concat();
                if self.modules.contains(&child) {
                    return Some([&child, rest].concat());
                }
                let import = self.imports.get(&(here.to_vec(), first.clone()))?;
                let import = self.resolve(here, import, imports.checked_sub(1)?)?;
                Some([&import, rest].concat())
            }
        }
    }

    fn write(&mut self, line: usize, path: Vec<String>) {
        self.written.push(Name {
            file: self.file.clone(),
            line,
            from: self.here.clone(),
            to: path,
            imported: false,
        });
    }

    /// What a `use` names, behind what stands before the braces.
    fn import(&mut self, before: &[String], tree: &UseTree) {
        let path = |ident: &Ident| match ident.to_string().as_str() {
            "self" if !before.is_empty() => before.to_vec(),
            _ => [before, &[plain(ident)]].concat(),
        };
        let (ident, path, known_as) = match tree {
            UseTree::Path(tree) => return self.import(&path(&tree.ident), &tree.tree),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(before, tree);
                }
                return;
            }
            UseTree::Glob(glob) => {
                let line = glob.star_token.spans[0].start().line;
                return self.write(line, before.to_vec());
            }
            UseTree::Name(name) => (&name.ident, path(&name.ident), None),
            UseTree::Rename(name) => (&name.ident, path(&name.ident), Some(plain(&name.rename))),
        };
        self.write(ident.span().start().line, path.clone());
        if let Some(name) = known_as.or_else(|| path.last().cloned()) {
            self.imports.insert((self.here.clone(), name), path);
        }
    }

    /// What the arguments of a macro name, which are no code yet.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter();
        while let Some(token) = tokens.next() {
            let first = match token {
                TokenTree::Ident(ident) => ident,
                TokenTree::Group(group) => {
                    self.tokens(group.stream());
                    continue;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => continue,
            };
            let mut path = vec![plain(&first)];
            while let Some(behind) = behind_colons(&tokens) {
                let mut ahead = behind.clone();
                match ahead.next() {
                    Some(TokenTree::Ident(ident)) => path.push(plain(&ident)),
                    Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                        let tree = syn::parse2(TokenTree::from(group).into());
                        if let Ok(tree) = tree {
                            self.import(&path, &tree);
                            tokens = ahead;
                        }
                        break;
                    }
                    _ => break,
                }
                tokens = ahead;
            }
            if path.len() > 1 {
                self.write(first.span().start().line, path);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_none() {
            self.import(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        // A word alone is a variable or an item of the module's own.
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let first = &path.segments[0].ident;
            let parts = path.segments.iter().map(|part| plain(&part.ident));
            self.write(first.span().start().line, parts.collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.visit_path(&called.path);
        self.tokens(called.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
        visit::visit_attribute(self, attribute);
    }

    /// Who may see an item is no use of it.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.here.push(plain(&item.ident));
        if item.content.is_some() {
            self.modules.insert(self.here.clone());
        }
        visit::visit_item_mod(self, item);
        self.here.pop();
    }

    fn visit_item(&mut self, item: &'ast Item) {
        if !only_in_tests(of_item(item)) {
            visit::visit_item(self, item);
        } else if let Item::Mod(declared) = item {
            self.tests
                .push([&self.here[..], &[plain(&declared.ident)]].concat());
        }
    }

    // The other places where `#[cfg(test)]` is likely: where it is not looked for, what stands there
    // counts as production code.

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !only_in_tests(of_impl_item(item)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !only_in_tests(of_trait_item(item)) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_local(&mut self, local: &'ast Local) {
        if !only_in_tests(&local.attrs) {
            visit::visit_local(self, local);
        }
    }

    fn visit_stmt_macro(&mut self, called: &'ast StmtMacro) {
        if !only_in_tests(&called.attrs) {
            visit::visit_stmt_macro(self, called);
        }
    }

    fn visit_field(&mut self, field: &'ast Field) {
        if !only_in_tests(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_field_value(&mut self, field: &'ast FieldValue) {
        if !only_in_tests(&field.attrs) {
            visit::visit_field_value(self, field);
        }
    }

    fn visit_variant(&mut self, variant: &'ast Variant) {
        if !only_in_tests(&variant.attrs) {
            visit::visit_variant(self, variant);
        }
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        if !only_in_tests(&arm.attrs) {
            visit::visit_arm(self, arm);
        }
    }
}

/// The word without the `r#` that makes a keyword a name.
fn plain(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// What follows a `::`, where that comes next.
fn behind_colons(tokens: &IntoIter) -> Option<IntoIter> {
    let mut tokens = tokens.clone();
    let mut colon = || match tokens.next() {
        Some(TokenTree::Punct(punct)) if punct.as_char() == ':' => Some(punct.spacing()),
        _ => None,
    };
    (colon()? == Spacing::Joint && colon().is_some()).then_some(tokens)
}

#[cfg(test)]
mod tests;
