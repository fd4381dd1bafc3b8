//! How long functions are, counted in tokens so that line width says nothing.
//!
//! A function above [`LONG`] tokens is hard to hold in one's head. The share of such functions in a
//! crate may fall and may not grow: [`SHARES`] is where it stands. `cargo test -p kith-tests --test
//! functions -- --nocapture` prints the figures and the longest ones.

use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::Visit;

/// Tokens above which a function counts as long.
const LONG: usize = 400;

/// Where a crate's code stands, and how many in a thousand of its functions may be long.
const SHARES: &[(&str, &str, u64)] = &[
    ("consensus", "consensus/src", 11),
    ("gossip, its core", "gossip/src", 13),
    ("gossip, net", "gossip/src/net", 29),
    ("models", "models/src", 34),
    ("simulations", "simulations/src", 43),
    ("node", "node/src", 30),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

fn sources(place: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(place).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn tokens(stream: TokenStream) -> usize {
    let each = stream.into_iter().map(|tree| match tree {
        TokenTree::Group(group) => 2 + tokens(group.stream()),
        _ => 1,
    });
    each.sum()
}

/// Every function outside tests, and the tokens of all code, tests apart.
#[derive(Default)]
struct Counted {
    functions: Vec<(usize, String)>,
    production: usize,
    tests: usize,
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let said = attribute.to_token_stream().to_string().replace(' ', "");
        said == "#[cfg(test)]" || said == "#[test]"
    })
}

impl<'ast> Visit<'ast> for Counted {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_test(&function.attrs) {
            let count = tokens(function.to_token_stream());
            self.functions.push((count, function.sig.ident.to_string()));
            syn::visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        let count = tokens(function.to_token_stream());
        self.functions.push((count, function.sig.ident.to_string()));
        syn::visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if function.default.is_some() {
            let count = tokens(function.to_token_stream());
            self.functions.push((count, function.sig.ident.to_string()));
        }
        syn::visit::visit_trait_item_fn(self, function);
    }
}

fn without_comments(attributes: &mut Vec<syn::Attribute>) {
    attributes.retain(|attribute| !attribute.path().is_ident("doc"));
}

/// Comments are no tokens of code.
struct Uncommented;

impl syn::visit_mut::VisitMut for Uncommented {
    fn visit_attributes_mut(&mut self, attributes: &mut Vec<syn::Attribute>) {
        without_comments(attributes);
    }
}

fn count(files: &[PathBuf]) -> Counted {
    let mut counted = Counted::default();
    for path in files {
        let text = std::fs::read_to_string(path).expect("a source file");
        let mut file =
            syn::parse_file(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        syn::visit_mut::VisitMut::visit_file_mut(&mut Uncommented, &mut file);
        let before = counted.functions.len();
        counted.visit_file(&file);
        for (_, name) in &mut counted.functions[before..] {
            *name = format!(
                "{} {name}",
                path.strip_prefix(root()).expect("inside").display()
            );
        }
        for item in &file.items {
            let count = tokens(item.to_token_stream());
            let test = matches!(item, syn::Item::Mod(module) if is_test(&module.attrs));
            *if test {
                &mut counted.tests
            } else {
                &mut counted.production
            } += count;
        }
    }
    counted.functions.sort_unstable_by(|a, b| b.cmp(a));
    counted
}

#[test]
fn the_share_of_long_functions_does_not_grow() {
    let mut grown = Vec::new();
    println!(
        "{:20} functions  p90   long  share  production    tests",
        ""
    );
    for (name, place, most) in SHARES {
        let mut files = Vec::new();
        sources(&root().join(place), &mut files);
        files.retain(|path| !path.ends_with("known_answers.rs")); // a test that fills a file
        if *name == "gossip, its core" {
            files.retain(|path| !path.starts_with(root().join("gossip/src/net")));
            files.retain(|path| !path.ends_with("net.rs"));
        }
        let counted = count(&files);
        let all = counted.functions.len();
        let long = counted
            .functions
            .iter()
            .filter(|(count, _)| *count > LONG)
            .count();
        let share = 1000 * long as u64 / all as u64;
        let p90 = counted.functions[all / 10].0;
        println!(
            "{name:20} {all:9}  {p90:4} {long:5}  {:4.1}%  {:10} {:8}",
            share as f64 / 10.0,
            counted.production,
            counted.tests
        );
        for (count, function) in counted.functions.iter().take(4) {
            println!("    {count:5}  {function}");
        }
        if share > *most {
            let names: Vec<String> = counted.functions[..long]
                .iter()
                .map(|(count, function)| format!("  {count} {function}"))
                .collect();
            grown.push(format!(
                "{name}: {share} of 1000 functions have more than {LONG} tokens, {most} may:\n{}",
                names.join("\n")
            ));
        }
    }
    assert!(grown.is_empty(), "{}", grown.join("\n"));
}
