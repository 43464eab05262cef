//! Every path, macro and attribute in a source file.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// Everything that a file names.
#[derive(Default)]
pub(crate) struct Names {
    /// Paths, those of `use` trees spelled out; a glob ends in `*`.
    pub(crate) paths: Vec<Vec<String>>,
    /// Macros, by their last name.
    pub(crate) macros: Vec<String>,
    /// Attributes, by their last name.
    pub(crate) attributes: Vec<String>,
}

impl Names {
    pub(crate) fn of(file: &syn::File) -> Self {
        let mut names = Self::default();
        names.visit_file(file);
        names
    }

    fn flatten(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            syn::UseTree::Path(path) => {
                self.flatten(&with(path.ident.to_string()), &path.tree);
            }
            syn::UseTree::Name(name) => self.paths.push(with(name.ident.to_string())),
            syn::UseTree::Rename(renamed) => self.paths.push(with(renamed.ident.to_string())),
            syn::UseTree::Glob(_) => self.paths.push(with("*".to_owned())),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.flatten(before, tree);
                }
            }
        }
    }

    /// A macro's arguments are no syntax yet: every name before `::` or `!` counts.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path = Vec::new();
        let mut after_name = false;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if after_name {
                        self.end(&mut path);
                    }
                    path.push(name.to_string());
                    after_name = true;
                    continue;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => {}
                TokenTree::Punct(mark) if mark.as_char() == '!' => {
                    self.macros.extend(path.last().cloned());
                    self.end(&mut path);
                }
                TokenTree::Group(group) => {
                    self.end(&mut path);
                    self.tokens(group.stream());
                }
                _ => self.end(&mut path),
            }
            after_name = false;
        }
        self.end(&mut path);
    }

    /// A single word in a macro is a variable or a text's part; a path is a path.
    fn end(&mut self, path: &mut Vec<String>) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.paths.push(path);
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        // A single word is a variable, or was brought in by a `use`, which counts.
        let names = segments(path);
        if names.len() > 1 {
            self.paths.push(names);
        }
        visit::visit_path(self, path);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.flatten(&[], &item.tree);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.paths.push(vec![item.ident.to_string()]);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.macros.extend(segments(&called.path).pop());
        self.tokens(called.tokens.clone());
        visit::visit_macro(self, called);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let path = segments(attribute.path());
        // Comments are attributes too.
        if path != ["doc"] {
            self.attributes.extend(path.last().cloned());
        }
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
        visit::visit_attribute(self, attribute);
    }
}

pub(crate) fn segments(path: &syn::Path) -> Vec<String> {
    let segments = path.segments.iter();
    segments.map(|one| one.ident.to_string()).collect()
}
