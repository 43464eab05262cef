//! What a crate's public items show: types of others, and ways to change or call back.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};

use crate::names::segments;
use crate::{CARRIES_A_REQUEST, OBSERVE_TAKES, matches};

/// What a crate's public items offer: neither a foreign type, nor something to change
/// or to call back.
pub(crate) struct Api {
    imports: BTreeMap<String, String>,
    pub(crate) wrong: Vec<String>,
}

impl Api {
    pub(crate) fn of(file: &syn::File) -> Self {
        let mut api = Self {
            imports: imports(file),
            wrong: Vec::new(),
        };
        api.visit_file(file);
        api
    }

    fn check(&mut self, what: &str, ty: &syn::Type) {
        let mut parts = Parts::default();
        parts.visit_type(ty);
        for (first, last) in parts.types {
            let root = self.imports.get(&first).unwrap_or(&first);
            let foreign = OBSERVE_TAKES
                .iter()
                .any(|(name, _)| name.replace('-', "_") == *root);
            if foreign || matches(CARRIES_A_REQUEST, root) || root == "tonic" {
                self.wrong.push(format!("{what} shows {last} of {root}"));
            }
            if ["Mutex", "RwLock", "RefCell", "Cell"].contains(&&*last)
                || last.starts_with("Atomic")
            {
                self.wrong.push(format!("{what} shows a {last}"));
            }
        }
        self.wrong
            .extend(parts.handles.iter().map(|how| format!("{what} has {how}")));
    }

    fn signature(&mut self, signature: &syn::Signature) {
        let name = format!("`{}`", signature.ident);
        for input in &signature.inputs {
            if let syn::FnArg::Typed(typed) = input {
                self.check(&name, &typed.ty);
            }
        }
        if let syn::ReturnType::Type(_, ty) = &signature.output {
            self.check(&name, ty);
        }
        for parameter in &signature.generics.params {
            if let syn::GenericParam::Type(parameter) = parameter {
                self.wrong
                    .push(format!("{name} is open for any {}", parameter.ident));
            }
        }
    }

    fn fields(&mut self, name: &syn::Ident, fields: &syn::Fields, all: bool) {
        for field in fields {
            if all || is_public(&field.vis) {
                self.check(&format!("`{name}`"), &field.ty);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Api {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if is_public(&item.vis) {
            self.signature(&item.sig);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if is_public(&item.vis) {
            self.signature(&item.sig);
        }
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        if is_public(&item.vis) {
            self.fields(&item.ident, &item.fields, false);
        }
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        if is_public(&item.vis) {
            for variant in &item.variants {
                self.fields(&item.ident, &variant.fields, true);
            }
        }
    }
}

/// The named types inside a type, by first and last name, and what makes a handle.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) types: Vec<(String, String)>,
    handles: Vec<&'static str>,
}

impl<'ast> Visit<'ast> for Parts {
    fn visit_type_path(&mut self, path: &'ast syn::TypePath) {
        let names = segments(&path.path);
        self.types
            .extend(names.first().cloned().zip(names.last().cloned()));
        visit::visit_type_path(self, path);
    }

    fn visit_type_reference(&mut self, reference: &'ast syn::TypeReference) {
        if reference.mutability.is_some() {
            self.handles.push("a `&mut`");
        }
        visit::visit_type_reference(self, reference);
    }

    fn visit_type_trait_object(&mut self, _: &'ast syn::TypeTraitObject) {
        self.handles.push("a `dyn`, which may be anything");
    }

    fn visit_type_impl_trait(&mut self, implied: &'ast syn::TypeImplTrait) {
        // An iterator is walked through, and gives away what its `Item` is.
        let mut bounds = implied.bounds.iter().filter_map(|bound| match bound {
            syn::TypeParamBound::Trait(bound) => segments(&bound.path).pop(),
            _ => None,
        });
        if !bounds.any(|name| name == "Iterator" || name == "IntoIterator") {
            self.handles.push("an `impl`, which may be anything");
        }
    }
}

/// What each name that a file brings in stands for: the crate it is from.
fn imports(file: &syn::File) -> BTreeMap<String, String> {
    fn walk(first: &str, tree: &syn::UseTree, found: &mut BTreeMap<String, String>) {
        match tree {
            syn::UseTree::Path(path) => {
                let root = if first.is_empty() {
                    path.ident.to_string()
                } else {
                    first.to_owned()
                };
                walk(&root, &path.tree, found);
            }
            syn::UseTree::Name(name) => {
                found.insert(name.ident.to_string(), first.to_owned());
            }
            syn::UseTree::Rename(renamed) => {
                found.insert(renamed.rename.to_string(), first.to_owned());
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    walk(first, tree, found);
                }
            }
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    for item in &file.items {
        if let syn::Item::Use(item) = item {
            walk("", &item.tree, &mut found);
        }
    }
    found
}

fn is_public(visibility: &syn::Visibility) -> bool {
    matches!(visibility, syn::Visibility::Public(_))
}
