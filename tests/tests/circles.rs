//! Files that import each other in a circle can only be understood together. None do, but the parts
//! of the simulator around its queue of events.
//!
//! An import counts if it names another file's item. A file that imports from the module that it is
//! a part of does not count: it adds to that module's type.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The parts of one machine: an entry of the queue names what each of them does later.
const TOGETHER: &str = "simulations::simulator::";

const CRATES: [&str; 5] = ["consensus", "gossip", "models", "node", "simulations"];

/// A file's module: `["gossip", "peer", "overlay"]`.
type Module = Vec<String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

/// Every file under `folder`, which is `module`'s.
fn files(folder: &Path, module: &[String], found: &mut BTreeMap<Module, PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().expect("a name").to_string_lossy();
        let mut inner = module.to_vec();
        if !["lib", "main"].contains(&stem.as_ref()) {
            inner.push(stem.into_owned());
        }
        if path.is_dir() {
            files(&path, &inner, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.insert(inner, path);
        }
    }
}

/// The paths that a `use` names.
fn paths(tree: &syn::UseTree, so_far: &[String], found: &mut Vec<Vec<String>>) {
    let with = |ident: &syn::Ident| [so_far, &[ident.to_string()]].concat();
    match tree {
        syn::UseTree::Path(path) => paths(&path.tree, &with(&path.ident), found),
        syn::UseTree::Group(group) => {
            group
                .items
                .iter()
                .for_each(|tree| paths(tree, so_far, found));
        }
        syn::UseTree::Name(name) => found.push(with(&name.ident)),
        syn::UseTree::Rename(rename) => found.push(with(&rename.ident)),
        syn::UseTree::Glob(_) => found.push(so_far.to_vec()),
    }
}

/// The module of this crate that `path`, written in `module`, leads into.
fn leads_to(path: &[String], module: &Module, all: &BTreeMap<Module, PathBuf>) -> Option<Module> {
    let (mut base, mut rest) = (module.clone(), path);
    match path.first()?.as_str() {
        "crate" => (base, rest) = (module[..1].to_vec(), &path[1..]),
        "self" | "super" => {}
        _ => return None,
    }
    while let Some(first) = rest
        .first()
        .filter(|first| ["self", "super"].contains(&first.as_str()))
    {
        if first == "super" {
            base.pop();
        }
        rest = &rest[1..];
    }
    base.extend(rest.iter().cloned());
    while !all.contains_key(&base) {
        base.pop()?;
    }
    Some(base)
}

/// By module, the modules that it imports from.
fn imports(of_crate: &str) -> BTreeMap<Module, BTreeSet<Module>> {
    let mut all = BTreeMap::new();
    let folder = root().join(of_crate).join("src");
    files(&folder, &[of_crate.to_owned()], &mut all);
    let of = |(module, path): (&Module, &PathBuf)| {
        let text = std::fs::read_to_string(path).expect("a file of the repository");
        let file = syn::parse_file(&text).expect("Rust");
        let mut named = Vec::new();
        for item in &file.items {
            if let syn::Item::Use(item) = item {
                paths(&item.tree, &[], &mut named);
            }
        }
        let led = named.iter().filter_map(|path| leads_to(path, module, &all));
        let led = led.filter(|other| !module.starts_with(other));
        (module.clone(), led.collect())
    };
    all.iter().map(of).collect()
}

/// The modules that can be reached from `start`.
fn reached(start: &Module, imports: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let mut reached = BTreeSet::new();
    let mut open = vec![start];
    while let Some(module) = open.pop() {
        let next = imports.get(module).into_iter().flatten();
        open.extend(next.filter(|next| reached.insert((*next).clone())));
    }
    reached
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let in_circles = CRATES.iter().flat_map(|of_crate| {
        let imports = imports(of_crate);
        assert!(imports.len() > 10, "{of_crate} has files");
        let circular = imports
            .keys()
            .filter(|module| reached(module, &imports).contains(*module));
        let names: Vec<String> = circular.map(|module| module.join("::")).collect();
        names
    });
    let unexpected: Vec<String> = in_circles
        .filter(|name| !name.starts_with(TOGETHER))
        .collect();
    assert!(unexpected.is_empty(), "in a circle: {unexpected:#?}");
}
